import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from foggen_runtime.errors import ConfigError, OutboxFullError, StateError
from foggen_runtime.handoff.outbox import MAX_LEASE, MAX_WAIT, Counts, Entry, Outbox
from foggen_runtime.handoff.policy import OutboxLimits
from foggen_runtime.result import Result
from tests.support.clock import Clock
from tests.support.results import queued


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(tmp_path: Path, clock: Clock) -> Iterator[Outbox]:
    with Outbox(OutboxLimits(tmp_path / "outbox"), clock) as opened:
        yield opened


def accept(outbox: Outbox, question: str = "Which?") -> Result:
    result = queued()
    outbox.accept(question, result)
    return result


def claim(outbox: Outbox, after: int = 0, *, waiting: bool = False) -> Entry:
    entry = outbox.claim(after, 60, waiting=waiting)
    assert entry
    return entry


def answered(entry: Entry, text: str = "B") -> Result:
    return replace(entry.result, source="cloud", answer=text, choice=text)


def test_what_is_accepted_is_there_after_a_restart(tmp_path: Path) -> None:
    limits = OutboxLimits(tmp_path / "outbox")
    with Outbox(limits) as outbox:
        results = [accept(outbox, f"Question {i}?") for i in range(3)]
    with Outbox(limits) as outbox:
        entries = outbox.entries()
    assert [entry.result for entry in entries] == results
    assert [entry.id for entry in entries] == [result.id for result in results]
    assert [entry.question for entry in entries] == [f"Question {i}?" for i in range(3)]
    assert {entry.state for entry in entries} == {"accepted"}


def test_an_answer_is_stored_with_its_result(outbox: Outbox, clock: Clock) -> None:
    accept(outbox)
    entry = claim(outbox)
    clock.now += 5
    assert outbox.answer(entry, answered(entry))
    (stored,) = outbox.entries("answered")
    assert stored.result == answered(entry)
    assert stored.answered_at == clock.now
    assert outbox.entries("accepted") == []
    assert outbox.claim(0, 60) is None


def test_only_the_first_answer_is_stored(outbox: Outbox, clock: Clock) -> None:
    accept(outbox)
    first = claim(outbox)
    clock.now += 61
    second = claim(outbox)
    assert outbox.answer(second, answered(second, "B"))
    assert not outbox.answer(first, answered(first, "C"))
    (stored,) = outbox.entries()
    assert stored.result.answer == "B"


def test_a_leased_entry_is_left_alone_until_the_lease_ends(outbox: Outbox, clock: Clock) -> None:
    one, two = accept(outbox, "1?"), accept(outbox, "2?")
    assert claim(outbox).id == one.id
    assert claim(outbox).id == two.id
    assert outbox.claim(0, 60) is None
    clock.now += 59
    assert outbox.claim(0, 60) is None
    clock.now += 2
    assert claim(outbox).id == one.id


def test_a_late_flusher_does_not_end_the_lease_of_the_next_one(
    outbox: Outbox, clock: Clock
) -> None:
    accept(outbox)
    late = claim(outbox)
    clock.now += 61
    claim(outbox)
    outbox.put_back(late, "cloud_timeout", 0)
    assert outbox.claim(0, 60) is None


def test_a_failed_entry_waits_for_its_next_attempt(outbox: Outbox, clock: Clock) -> None:
    accept(outbox)
    outbox.put_back(claim(outbox), "cloud_error", 30)
    (entry,) = outbox.entries()
    assert (entry.attempts, entry.last_reason, entry.lease) == (1, "cloud_error", None)
    assert outbox.claim(0, 60) is None
    assert claim(outbox, waiting=True).id == entry.id
    clock.now += 61
    assert claim(outbox).attempts == 1


def test_a_clock_that_jumps_back_blocks_nothing(outbox: Outbox, clock: Clock) -> None:
    accept(outbox, "leased?")
    accept(outbox, "waiting?")
    claim(outbox)
    outbox.put_back(claim(outbox), "cloud_error", MAX_WAIT)
    clock.now = 100.0  # a board without a battery starts in 1970
    assert claim(outbox).question == "leased?"
    assert claim(outbox).question == "waiting?"
    assert clock.now + MAX_LEASE < 1e9


def test_the_number_of_entries_is_bounded(tmp_path: Path) -> None:
    with Outbox(OutboxLimits(tmp_path / "outbox", max_entries=2)) as outbox:
        accept(outbox)
        accept(outbox)
        with pytest.raises(OutboxFullError, match="max_entries: must be at most 2, would be 3"):
            accept(outbox)
        entry = claim(outbox)
        outbox.answer(entry, answered(entry))
        with pytest.raises(OutboxFullError):
            accept(outbox)
        assert outbox.purge() == 1
        accept(outbox)
        assert outbox.counts().accepted == 2


def test_the_bytes_are_bounded(tmp_path: Path) -> None:
    with Outbox(OutboxLimits(tmp_path / "outbox", max_bytes=5000)) as outbox:
        accept(outbox)
        with pytest.raises(OutboxFullError, match="max_bytes: must be at most 5000, would be"):
            accept(outbox, "é" * 2500)
        assert outbox.counts().accepted == 1


def test_purging_spares_what_waits_and_what_is_new(outbox: Outbox, clock: Clock) -> None:
    accept(outbox, "old?")
    accept(outbox, "new?")
    accept(outbox, "waiting?")
    for _ in range(2):
        entry = claim(outbox)
        outbox.answer(entry, answered(entry))
        clock.now += 100
    assert outbox.purge(older_than=150) == 1
    assert [entry.question for entry in outbox.entries()] == ["new?", "waiting?"]
    assert outbox.purge() == 1
    assert outbox.purge(accepted=True) == 1
    assert outbox.counts() == Counts(0, 0, 0)


def test_what_is_purged_is_gone_from_the_files(outbox: Outbox, tmp_path: Path) -> None:
    accept(outbox, "an unmistakable question")
    outbox.purge(accepted=True)
    files = list(tmp_path.iterdir())
    assert files
    assert all(b"unmistakable" not in path.read_bytes() for path in files)


def test_entries_are_found_by_the_beginning_of_their_id(outbox: Outbox) -> None:
    one = accept(outbox, "1?")
    assert outbox.get("") is None
    two = accept(outbox, "2?")
    for result, question in ((one, "1?"), (two, "2?")):
        entry = outbox.get(result.id[:12])
        assert entry
        assert entry.question == question
    assert outbox.get("%") is None
    assert outbox.get("") is None


def test_an_entry_that_cannot_be_read_is_named(outbox: Outbox) -> None:
    result = accept(outbox)
    connection = sqlite3.connect(outbox.path)
    with connection:
        connection.execute("UPDATE entries SET result = json_set(result, '$.colour', 'blue')")
    connection.close()
    with pytest.raises(StateError, match=f"entry {result.id}: result: unknown field 'colour'"):
        outbox.entries()


def test_an_outbox_needs_a_file() -> None:
    with pytest.raises(ConfigError, match=r"outbox.file: must be set"):
        Outbox(OutboxLimits())


FILLING = """
import resource, signal, sys
from pathlib import Path
from foggen_runtime.errors import StateError
from foggen_runtime.handoff.outbox import Outbox
from foggen_runtime.handoff.policy import OutboxLimits
from tests.support.results import queued

outbox = Outbox(OutboxLimits(Path(sys.argv[1])))
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
refused = 0
for number in range(1000):
    try:
        outbox.accept(f"Question {number}?" + "x" * 2000, queued())
    except StateError as error:
        print("refused:", error)
        refused += 1
        if refused == 3:
            break
    else:
        print("accepted", number, flush=True)
"""


def test_a_full_disk_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    path = tmp_path / "outbox"
    done = subprocess.run(
        [sys.executable, "-c", FILLING, path], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    accepted = [line for line in lines if line.startswith("accepted")]
    # The write-ahead log must not fill the disk for little data.
    assert len(accepted) > 100
    refused = [line for line in lines if line.startswith(f"refused: {path}: ")]
    assert len(accepted) + len(refused) == len(lines)
    with Outbox(OutboxLimits(path)) as outbox:
        entries = outbox.entries()
        numbers = [f"accepted {entry.question.split('?')[0].split()[1]}" for entry in entries]
        assert numbers == accepted
        accept(outbox)
        assert outbox.counts().accepted == len(accepted) + 1
    assert sound(path)


def sound(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        connection.close()


def test_a_killed_flusher_leaves_its_entry(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "outbox"
    with Outbox(OutboxLimits(path), clock) as outbox:
        accept(outbox)
    script = (
        "import os, sys; from pathlib import Path;"
        "from foggen_runtime.handoff.outbox import Outbox;"
        "from foggen_runtime.handoff.policy import OutboxLimits;"
        "outbox = Outbox(OutboxLimits(Path(sys.argv[1])), lambda: 1e9);"
        f"assert outbox.claim(0, 60); os.kill(os.getpid(), {signal.SIGKILL.value})"
    )
    killed = subprocess.run([sys.executable, "-c", script, os.fspath(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with Outbox(OutboxLimits(path), clock) as outbox:
        assert outbox.claim(0, 60) is None
        clock.now += 61
        assert claim(outbox).question == "Which?"
