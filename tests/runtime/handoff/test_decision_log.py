import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from foggen_runtime.errors import ConfigError, StateError
from foggen_runtime.handoff.decision_log import DecisionLog
from foggen_runtime.handoff.policy import LogSettings
from foggen_runtime.result import Result
from tests.support.results import queued

QUESTION = "What is the unmistakable question?"


def result() -> Result:
    return replace(
        queued("confident"),
        source="local",
        answer="the unmistakable answer",
        choice="Q",
        detail="something unmistakable",
    )


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_record_holds_provenance_and_no_content(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    answered = result()
    DecisionLog(LogSettings(path), clock=lambda: 1e9).write(QUESTION, answered)
    (record,) = records(path)
    document = answered.to_dict()
    for name in ("answer", "choice", "detail"):
        del document[name]
    assert record == {
        "record_version": 1,
        "time": "2001-09-09T01:46:40.000Z",
        **json.loads(json.dumps(document)),
    }
    assert {
        "id",
        "confidence",
        "level_probabilities",
        "expected_confidence",
        "tau",
        "source",
        "reason",
        "timing_ms",
        "usage",
        "bundle",
    } <= set(record)
    text = path.read_text(encoding="utf-8")
    assert "unmistakable" not in text
    assert '"Q"' not in text


def test_content_is_logged_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    DecisionLog(LogSettings(path, content=True)).write(QUESTION, result())
    (record,) = records(path)
    assert record["question"] == QUESTION
    assert (record["answer"], record["choice"]) == ("the unmistakable answer", "Q")


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    DecisionLog(LogSettings(tmp_path / "log.jsonl")).write(QUESTION, result())
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_files_that_others_could_read_are_closed_to_them(tmp_path: Path) -> None:
    settings = LogSettings(tmp_path / "log.jsonl", max_bytes=10, max_files=3)
    for _ in range(3):
        DecisionLog(settings).write(QUESTION, result())
    for path in tmp_path.iterdir():
        path.chmod(0o644)
    log = DecisionLog(settings)
    assert len(list(tmp_path.iterdir())) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    (tmp_path / "log.jsonl").chmod(0o644)
    log.write(QUESTION, result())
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_full_files_are_set_aside_and_the_oldest_deleted(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    line = len(json.dumps(records_of_one(tmp_path)))
    log = DecisionLog(LogSettings(path, max_bytes=int(2.5 * line), max_files=3))
    written = [result() for _ in range(9)]
    for one in written:
        log.write(QUESTION, one)
    names = ["log.jsonl.2", "log.jsonl.1", "log.jsonl"]
    kept = [[record["id"] for record in records(tmp_path / name)] for name in names]
    ids = [one.id for one in written]
    assert kept == [ids[4:6], ids[6:8], ids[8:9]]
    assert not (tmp_path / "log.jsonl.3").exists()


def records_of_one(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "one.jsonl"
    DecisionLog(LogSettings(path)).write(QUESTION, result())
    return records(path)[0]


def test_with_one_file_the_log_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = DecisionLog(LogSettings(path, max_bytes=1, max_files=1))
    for _ in range(3):
        log.write(QUESTION, result())
    assert len(records(path)) == 1
    assert {one.name for one in tmp_path.iterdir()} == {"log.jsonl", "log.jsonl.lock"}


def test_what_a_power_cut_left_is_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"record_ver', encoding="utf-8")
    one = result()
    DecisionLog(LogSettings(path)).write(QUESTION, one)
    torn, whole = path.read_text(encoding="utf-8").splitlines()
    assert torn == '{"record_ver'
    assert json.loads(whole)["id"] == one.id


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let files grow to so many bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = DecisionLog(LogSettings(path))
    log.write(QUESTION, result())
    size = path.stat().st_size
    with room_for(size + 20), pytest.raises(StateError, match=r"log.jsonl: cannot be written"):
        log.write(QUESTION, result())
    assert path.stat().st_size == size
    log.write(QUESTION, result())
    assert len(records(path)) == 2


def test_what_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"log.jsonl: cannot be written: No such file"):
        DecisionLog(LogSettings(tmp_path / "missing" / "log.jsonl"))
    with pytest.raises(ConfigError, match=r"decision_log.file: must be set"):
        DecisionLog(LogSettings())


WRITING = """
import sys
from pathlib import Path
from foggen_runtime.handoff.decision_log import DecisionLog
from foggen_runtime.handoff.policy import LogSettings
from tests.support.results import queued

log = DecisionLog(LogSettings(Path(sys.argv[1]), max_bytes=2_000, max_files=200))
print(flush=True)
input()
for _ in range(100):
    log.write("Which?", queued())
"""


def test_processes_may_share_it(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    command = [sys.executable, "-c", WRITING, os.fspath(path)]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            for _ in range(3)
        ]
        for writer in writers:
            assert writer.stdout
            writer.stdout.readline()
        for writer in writers:  # all are ready: now they write at once
            assert writer.stdin
            writer.stdin.write(b"\n")
            writer.stdin.flush()
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    files = [one for one in tmp_path.iterdir() if one.suffix != ".lock"]
    assert len(files) > 50
    assert all(one.stat().st_size <= 2_000 for one in files)
    ids = {record["id"] for one in files for record in records(one)}
    assert len(ids) == 300
