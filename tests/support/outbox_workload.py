"""Many questions to a cloud that fails, an outbox behind them, and an account of each."""

import json
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from foggen_runtime.cloud.client import CloudClient
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.errors import HandoffError
from foggen_runtime.handoff.flushing import FlushOptions, FlushReport, flush
from foggen_runtime.handoff.outbox import Outbox
from foggen_runtime.handoff.policy import OutboxLimits, Policy
from foggen_runtime.handoff.sending import Handoff
from foggen_runtime.result import Result
from tests.support.fault_workload import Workload, fault_server, question
from tests.support.faults import digest
from tests.support.results import queued

_FLUSHERS = 16
_ROUNDS = 1000
_PAUSE = 0.1  # seconds, for breakers to close


@dataclass
class Account:
    """What became of the questions.

    Attributes:
        questions: How many there were.
        fault_rate: Share of the server's requests that met a fault.
        ignore_idempotency: Whether the server makes a new answer for a key that it has seen.
        answered_at_once: Answered by the handoff itself.
        failures: Handoffs and deliveries that failed, by reason.
        queued: Questions that went through the outbox.
        rounds: How often the outbox was flushed until it was empty.
        lost: Questions with no stored answer in the end.
        stored_twice: Questions with more than one.
        mixed_up: Stored answers that belong to another question.
        requests: Requests that reached the server.
        faults: Faults it made.
        upstream_calls: Answers it made.
        duplicate_upstream_calls: Those that it made again for a key.
        seconds: All in all.
    """

    questions: int
    fault_rate: float
    ignore_idempotency: bool
    answered_at_once: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    queued: int = 0
    rounds: int = 0
    lost: int = 0
    stored_twice: int = 0
    mixed_up: int = 0
    requests: int = 0
    faults: int = 0
    upstream_calls: int = 0
    duplicate_upstream_calls: int = 0
    seconds: float = 0.0


class _Run:
    """Hands questions off, queues those that fail, and flushes until nothing waits."""

    def __init__(self, handoff: Handoff, outbox: Outbox) -> None:
        self.handoff = handoff
        self.outbox = outbox
        self.stored: dict[int, list[str]] = {}
        self.failures: Counter[str] = Counter()

    def ask(self, number: int) -> None:
        """Ask one question; every second one is streamed."""
        text = question(number)
        result = queued()
        ask = self.handoff.stream if number % 2 else self.handoff.complete
        try:
            *_, answer = ask(text, result.id)
        except HandoffError as error:
            self.failures[error.reason] += 1
            self.outbox.accept(text, replace(result, reason=error.reason))
            return
        if isinstance(answer, CloudAnswer):
            self.store(self.handoff.answered(result, text, answer), number)

    def flush(self, _: int) -> FlushReport:
        """Flush once, without the waits between attempts."""
        return flush(self.outbox, self.handoff, FlushOptions(waiting=True))

    def store(self, result: Result, number: int) -> None:
        self.stored.setdefault(number, []).append(str(result.answer))


def run(workload: Workload, directory: Path) -> Account:
    """Ask everything, flush until nothing waits, and count."""
    account = Account(workload.questions, workload.fault_rate, workload.ignore_idempotency)
    limits = OutboxLimits(directory / "outbox.sqlite3", max_entries=workload.questions)
    started = time.perf_counter()
    with (
        fault_server(workload) as root,
        CloudClient(workload.cloud(f"{root}/v1")) as client,
        Outbox(limits) as outbox,
        ThreadPoolExecutor(workload.threads) as pool,
    ):
        running = _Run(Handoff(client, Policy()), outbox)
        list(pool.map(running.ask, range(workload.questions)))
        account.answered_at_once = len(running.stored)
        account.queued = outbox.counts().accepted
        while outbox.counts().accepted and account.rounds < _ROUNDS:
            account.rounds += 1
            time.sleep(_PAUSE)
            for report in pool.map(running.flush, range(_FLUSHERS)):
                running.failures["in the outbox"] += report.failed
        for entry in outbox.entries("answered"):
            running.store(entry.result, int(entry.question.split(":")[0].split()[1]))
        _take_stats(account, root)
    account.failures = dict(sorted(running.failures.items()))
    _judge(account, running.stored)
    account.seconds = round(time.perf_counter() - started, 1)
    return account


def _judge(account: Account, stored: dict[int, list[str]]) -> None:
    account.lost = account.questions - len(stored)
    account.stored_twice = sum(len(answers) > 1 for answers in stored.values())
    account.mixed_up = sum(
        not answer.endswith(f" for {digest(question(number))}")
        for number, answers in stored.items()
        for answer in answers
    )


def _take_stats(account: Account, root: str) -> None:
    with urllib.request.urlopen(f"{root}/stats") as response:
        stats = json.load(response)
    account.requests = stats["requests"]
    account.faults = sum(stats["faults"].values())
    account.upstream_calls = stats["upstream_calls"]
    account.duplicate_upstream_calls = stats["upstream_calls"] - account.questions
