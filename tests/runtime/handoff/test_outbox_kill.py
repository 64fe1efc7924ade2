"""kill -9 at any moment of a queueing workload loses no question and answers none twice."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from foggen_runtime.handoff.flushing import flush
from foggen_runtime.handoff.outbox import Outbox
from foggen_runtime.handoff.policy import Policy
from foggen_runtime.handoff.sending import Handoff
from tests.conftest import BundleOf
from tests.support.clouds import FakeCloud
from tests.support.queueing_workload import LEASE_SECONDS, limits

ROOT = Path(__file__).parents[3]
LONGEST = 0.15  # seconds from the first question to the kill


@dataclass
class Workload:
    """The same outbox, killed and started again.

    Attributes:
        path: The outbox.
        bundle: Asked, if there is one.
        dice: Says when to kill.
        accepted: The numbers that were said to be accepted.
    """

    path: Path
    bundle: Path | None = None
    dice: random.Random = field(default_factory=lambda: random.Random(0))
    accepted: list[int] = field(default_factory=list)

    def run_and_kill(self, first: int) -> None:
        """Start it, kill it at a random moment after its first question, and note what it said."""
        module = "tests.support.queueing_workload"
        command = [sys.executable, "-m", module, str(self.path), str(first)]
        if self.bundle:
            command.append(str(self.bundle))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout
        said = process.stdout.readline()
        time.sleep(self.dice.uniform(0, LONGEST))
        process.kill()
        said += process.stdout.read()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        # The kill may cut the last line short: then its question was accepted, its number not said.
        self.accepted.extend(int(line) for line in said.split(b"\n")[:-1])

    def check(self) -> int:
        """Check that whatever was accepted is there once; returns the next free number."""
        connection = sqlite3.connect(self.path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        with Outbox(limits(self.path)) as outbox:
            entries = outbox.entries()
        numbers = Counter(int(entry.question.split()[1]) for entry in entries)
        assert set(numbers.values()) == {1}
        assert not set(self.accepted) - set(numbers)
        for entry in entries:
            answered = entry.state == "answered"
            assert entry.result.answer == (entry.question.upper() if answered else None)
            assert entry.result.source == ("cloud" if answered else "queued")
        return max(numbers) + 1

    def finish(self) -> tuple[int, int]:
        """Deliver the rest; returns the numbers of entries and of repeated deliveries."""
        time.sleep(LEASE_SECONDS)
        with Outbox(limits(self.path)) as outbox:
            report = flush(outbox, Handoff(FakeCloud(), Policy()))
            assert report.remaining == report.failed == 0
            counts = outbox.counts()
        assert counts.accepted == 0
        delivered = self.path.with_suffix(".delivered").read_text(encoding="utf-8").splitlines()
        return counts.answered, len(delivered) - len(set(delivered))


def kill_often(workload: Workload, kills: int) -> None:
    number = 0
    for _ in range(kills):
        workload.run_and_kill(number)
        number = workload.check()
    answered, repeated = workload.finish()
    assert answered >= len(workload.accepted) > kills
    print(f"{kills} kills, {answered} answered once, {repeated} delivered again")


@pytest.mark.slow
def test_no_question_is_lost_by_kill_9(tmp_path: Path) -> None:
    kill_often(Workload(tmp_path / "outbox"), 20)


@pytest.mark.long
def test_no_question_is_lost_by_200_kills(tmp_path: Path) -> None:
    kill_often(Workload(tmp_path / "outbox"), 200)


@pytest.mark.long
def test_no_asked_question_is_lost_by_200_kills(tmp_path: Path, tiny_bundle: BundleOf) -> None:
    kill_often(Workload(tmp_path / "outbox", tiny_bundle("int4")), 200)
