"""Many questions to a server that fails, and an account of what became of each."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from foggen_runtime.cloud.client import CloudClient
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.errors import HandoffError
from tests.support.faults import MODEL, Fault, digest

REPOSITORY = Path(__file__).parent.parent.parent
_ROUNDS = 100


@dataclass(frozen=True)
class Workload:
    """What is asked.

    Attributes:
        questions: How many; every second one is streamed.
        threads: How many ask at a time.
        fault_rate: Share of requests that meet a fault.
        ignore_idempotency: Whether the server makes a new answer for a key it has seen.
        seed: Of the server's draw of faults.
        first_token_timeout: Seconds; the other limits follow from it.
    """

    questions: int
    threads: int = 24
    fault_rate: float = 0.3
    ignore_idempotency: bool = False
    seed: int = 1
    first_token_timeout: float = 2.0

    def cloud(self, url: str) -> Cloud:
        """Return the limits: short, so that a fault does not take long.

        The breaker opens late: faults drawn by chance are no outage.
        """
        return Cloud(
            url,
            MODEL,
            connect_timeout=self.first_token_timeout,
            first_token_timeout=self.first_token_timeout,
            total_timeout=2.5 * self.first_token_timeout,
            breaker_failures=12,
            breaker_cooldown=0.2,
        )


@dataclass(frozen=True)
class _Delivery:
    """One call of the client."""

    number: int
    seconds: float
    answer: CloudAnswer | None
    reason: str | None


@dataclass
class Account:
    """What became of the questions.

    Attributes:
        questions: How many there were.
        answered_at_once: Answered by the first call of the client.
        calls: Calls of the client, those included that delivered again what had failed.
        failures: Failed calls by their reason.
        lost: Questions without an answer in the end, or whose call raised anything unexpected.
        stored_twice: Questions with more than one answer.
        mixed_up: Answers that belong to another question.
        attempts: Requests that reached the server.
        faults: Faults the server made, by kind.
        upstream_calls: Answers the server made.
        duplicate_upstream_calls: Answers it made again for a question that had one.
        longest_seconds: The longest call.
        longest_held: For each fault that waits for the client to go, the longest it waited.
        seconds: All in all.
    """

    questions: int
    answered_at_once: int = 0
    calls: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    stored_twice: int = 0
    mixed_up: int = 0
    attempts: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    upstream_calls: int = 0
    duplicate_upstream_calls: int = 0
    longest_seconds: float = 0.0
    longest_held: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@contextmanager
def fault_server(workload: Workload) -> Iterator[str]:
    """Serve faults from another process, as a JVM's tests do; give its root URL."""
    command = [sys.executable, "-m", "tests.support.fault_server", "--seed", str(workload.seed)]
    command += ["--fault-rate", str(workload.fault_rate)]
    command += ["--ignore-idempotency"] * workload.ignore_idempotency
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def run(workload: Workload) -> Account:
    """Ask everything, and again what failed until it is answered, with the key it had."""
    account = Account(workload.questions)
    stored: dict[int, list[CloudAnswer]] = {}
    started = time.perf_counter()
    with (
        fault_server(workload) as root,
        CloudClient(workload.cloud(f"{root}/v1")) as client,
        ThreadPoolExecutor(workload.threads) as pool,
    ):
        due: Sequence[int] = range(workload.questions)
        for _ in range(_ROUNDS):
            deliveries = list(pool.map(lambda number: _deliver(client, number), due))
            _take(account, stored, deliveries)
            due = [each.number for each in deliveries if each.reason is not None]
            if not due:
                break
        _take_stats(account, root)
    account.lost = workload.questions - len(stored)
    account.stored_twice = sum(len(answers) > 1 for answers in stored.values())
    account.seconds = round(time.perf_counter() - started, 1)
    return account


def _deliver(client: CloudClient, number: int) -> _Delivery:
    answer, reason = None, None
    started = time.perf_counter()
    key = f"workload-{number}"
    try:
        if number % 2:
            *_, last = client.stream(question(number), idempotency_key=key)
            answer = last if isinstance(last, CloudAnswer) else None
        else:
            answer = client.complete(question(number), idempotency_key=key)
    except HandoffError as error:
        reason = error.reason
    return _Delivery(number, time.perf_counter() - started, answer, reason)


def question(number: int) -> str:
    """Return a question like no other."""
    return f"Question {number}: which is larger? A) {number} B) {number + 1}"


def _take(
    account: Account, stored: dict[int, list[CloudAnswer]], deliveries: Sequence[_Delivery]
) -> None:
    first = account.calls == 0
    for delivery in deliveries:
        account.calls += 1
        account.longest_seconds = max(account.longest_seconds, round(delivery.seconds, 3))
        if delivery.reason is not None:
            reasons = account.failures
            reasons[delivery.reason] = reasons.get(delivery.reason, 0) + 1
        if delivery.answer is None:
            continue
        account.answered_at_once += first
        stored.setdefault(delivery.number, []).append(delivery.answer)
        expected = f" for {digest(question(delivery.number))}"
        account.mixed_up += not delivery.answer.text.endswith(expected)


def _take_stats(account: Account, root: str) -> None:
    with urllib.request.urlopen(f"{root}/stats") as response:
        stats = json.load(response)
    account.attempts = stats["requests"]
    account.faults = dict(sorted(stats["faults"].items()))
    account.upstream_calls = stats["upstream_calls"]
    account.duplicate_upstream_calls = stats["duplicate_calls"]
    for fault, streamed, seconds in stats["held"]:
        name = f"{fault}, {'streamed' if streamed else 'whole'}"
        longest = account.longest_held.get(name, 0.0)
        account.longest_held[name] = max(longest, round(seconds, 3))


def overruns(workload: Workload, account: Account, tolerance: float = 0.1) -> list[str]:
    """Return the time limits that were exceeded by more than a share of them."""
    cloud = workload.cloud("http://127.0.0.1/v1")
    limits = {f"{fault}, whole": cloud.total_timeout for fault in Fault}
    limits |= {f"{fault}, streamed": cloud.total_timeout for fault in Fault}
    limits |= {
        # Silence, or no text.
        f"{Fault.HANG_BEFORE_HEADERS}, streamed": cloud.first_token_timeout,
        f"{Fault.HANG_MID_STREAM}, whole": cloud.first_token_timeout,
        f"{Fault.HANG_MID_STREAM}, streamed": cloud.first_token_timeout,
        f"{Fault.SLOW_DRIP}, streamed": cloud.first_token_timeout,
    }
    took = {**account.longest_held, "call": account.longest_seconds}
    limits["call"] = cloud.total_timeout
    return [
        f"{name}: {seconds} s, the limit is {limits[name]} s"
        for name, seconds in took.items()
        if seconds > (1 + tolerance) * limits[name]
    ]
