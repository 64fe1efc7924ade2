"""Accepts questions into an outbox and delivers them, until it is killed.

Run as `python -m tests.support.queueing_workload OUTBOX FIRST [BUNDLE]`. Once a question is
accepted, its number is printed. The cloud is a file beside the outbox: each delivery appends the
question to it. With a bundle, questions go through `Foggen.ask` with no cloud in reach.
"""

import os
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.handoff.flushing import FlushOptions, flush
from foggen_runtime.handoff.outbox import Outbox
from foggen_runtime.handoff.policy import OutboxLimits, Policy
from foggen_runtime.handoff.sending import Handoff
from tests.support.clouds import FakeCloud
from tests.support.results import queued

LEASE_SECONDS = 0.02


def limits(path: Path) -> OutboxLimits:
    return OutboxLimits(path, max_entries=1_000_000, max_bytes=1 << 40)


class FileCloud(FakeCloud):
    """Notes each delivery in a file before it answers."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def complete(
        self,
        question: str,
        *,
        idempotency_key: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> CloudAnswer:
        os.write(self._file, f"{question}\n".encode())
        return CloudAnswer(question.upper(), "stop", 1, 1)


def deliver(path: Path) -> None:
    """Deliver what is due, over and over."""
    handoff = Handoff(FileCloud(path.with_suffix(".delivered")), Policy())
    with Outbox(limits(path)) as outbox:
        while True:
            flush(outbox, handoff, FlushOptions(limit=10, lease_seconds=LEASE_SECONDS))


def accepting(path: Path, bundle: Path | None) -> Callable[[int], None]:
    """Return what queues the question with a number."""
    if bundle is None:
        outbox = Outbox(limits(path))
        return lambda number: outbox.accept(f"question {number}", queued())
    from foggen_runtime import EngineOptions, Foggen, OpenOptions

    options = OpenOptions(EngineOptions(threads=1, spinning=False))
    policy = Policy(on_unreachable="queue", outbox=limits(path), tau=1.0)
    foggen = Foggen.open(bundle, options=options, policy=policy)

    def ask(number: int) -> None:
        result = foggen.ask(f"question {number}")
        if result.source != "queued":
            raise ValueError(f"source: must be queued, is {result.source} ({result.reason})")

    return ask


def main() -> None:
    path, first, *bundle = sys.argv[1:]
    accept = accepting(Path(path), Path(bundle[0]) if bundle else None)
    threading.Thread(target=deliver, args=(Path(path),), daemon=True).start()
    for number in count(int(first)):
        accept(number)
        os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    main()
