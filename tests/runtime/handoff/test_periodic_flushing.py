"""Delivering every so often: what waits, one flush at a time, and no longer than the block."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from foggen_runtime.cloud.client import CloudClient
from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.errors import HandoffError
from foggen_runtime.handoff.budget import DailyBudget
from foggen_runtime.handoff.outbox import Outbox
from foggen_runtime.handoff.periodic_flushing import PeriodicFlusher
from foggen_runtime.handoff.policy import Budget, OutboxLimits, Policy
from foggen_runtime.handoff.sending import Handoff
from tests.support.cloud_server import CloudServer, Fault
from tests.support.clouds import FakeCloud, failing
from tests.support.results import queued

SOON = 0.02  # seconds
BUSY = HandoffError("cloud_error", "busy", status=503, retry_after=60.0, sent=True)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(OutboxLimits(tmp_path / "outbox")) as opened:
        yield opened


def fill(outbox: Outbox, count: int) -> None:
    for number in range(count):
        outbox.accept(f"question {number}", queued())


def flushing(outbox: Outbox, handoff: Handoff) -> PeriodicFlusher:
    return PeriodicFlusher(outbox, handoff, SOON, 300.0)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_waits_is_delivered_now_and_later(outbox: Outbox) -> None:
    fill(outbox, 2)
    with flushing(outbox, Handoff(FakeCloud(), Policy())):
        until(lambda: outbox.counts().answered == 2)
        fill(outbox, 1)
        until(lambda: outbox.counts().answered == 3)
    fill(outbox, 1)
    time.sleep(5 * SOON)
    assert outbox.counts().accepted == 1


def test_there_is_one_flush_at_a_time(outbox: Outbox) -> None:
    lock = threading.Lock()

    def answer(message: str) -> str:
        assert lock.acquire(blocking=False)
        time.sleep(2 * SOON)
        lock.release()
        return message

    fill(outbox, 6)
    cloud = FakeCloud(answer)
    with flushing(outbox, Handoff(cloud, Policy())):
        until(lambda: outbox.counts().answered == 6)
    assert [message for message, _ in cloud.asked] == [f"question {i}" for i in range(6)]


def test_rules_and_budget_hold(outbox: Outbox, tmp_path: Path) -> None:
    fill(outbox, 4)
    limits = Budget(calls=2, file=tmp_path / "budget")
    policy, cloud = Policy(never_send=("question 1",), budget=limits), FakeCloud()
    reasons = ["never_send", "budget"]
    with closing(DailyBudget(limits)) as budget, flushing(outbox, Handoff(cloud, policy, budget)):
        until(lambda: [entry.last_reason for entry in outbox.entries("accepted")] == reasons)
        time.sleep(5 * SOON)
    assert [message for message, _ in cloud.asked] == ["question 0", "question 2"]


def test_a_cloud_that_asks_to_wait_is_left_alone(outbox: Outbox) -> None:
    fill(outbox, 2)
    cloud = FakeCloud(failing(BUSY, times=1))
    with flushing(outbox, Handoff(cloud, Policy())):
        until(lambda: len(cloud.asked) == 1)
        time.sleep(10 * SOON)
        assert len(cloud.asked) == 1


def test_the_end_cuts_a_delivery_short_and_puts_it_back(outbox: Outbox) -> None:
    fill(outbox, 1)
    with CloudServer(str, Fault.HANG) as server:
        client = CloudClient(Cloud(server.url, "big"))
        with closing(Handoff(client, Policy())) as handoff:
            with flushing(outbox, handoff):
                until(lambda: len(server.requests) == 1)
                started = time.monotonic()
            assert time.monotonic() - started < 5  # the cloud's own limits are 30 and 60 s
            assert server.disconnected.wait(5)
    (entry,) = outbox.entries("accepted")
    assert (entry.attempts, entry.last_reason, entry.lease) == (0, "cancelled", None)
    assert outbox.claim(0, 1.0) is not None


def test_an_error_is_logged_without_content_and_tried_again(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def rule(question: str) -> bool:
        calls.append(question)
        if len(calls) == 1:
            raise LookupError(question)
        return False

    fill(outbox, 1)
    with (
        caplog.at_level(logging.INFO),
        flushing(outbox, Handoff(FakeCloud(), Policy(never_send_if=rule))),
    ):
        until(lambda: outbox.counts().answered == 1)
    assert f"{outbox.path}: could not be flushed: LookupError" in caplog.text
    assert "outbox: 1 answered, 0 failed, 0 waiting" in caplog.text
    assert "question 0" not in caplog.text


def test_a_file_that_cannot_be_read_is_no_end(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    cloud = FakeCloud()
    fill(outbox, 1)
    outbox._database._connection.execute("ALTER TABLE entries RENAME TO lost")
    with flushing(outbox, Handoff(cloud, Policy())):
        until(lambda: "could not be flushed: OperationalError" in caplog.text)
        outbox._database._connection.execute("ALTER TABLE lost RENAME TO entries")
        until(lambda: outbox.counts().answered == 1)
