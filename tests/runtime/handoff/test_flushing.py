import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.errors import HandoffError
from foggen_runtime.handoff.budget import DailyBudget
from foggen_runtime.handoff.flushing import FlushOptions, FlushReport, flush
from foggen_runtime.handoff.outbox import Outbox
from foggen_runtime.handoff.policy import Budget, OutboxLimits, Policy
from foggen_runtime.handoff.sending import Handoff
from tests.support.clock import Clock
from tests.support.clouds import FakeCloud, failing
from tests.support.results import queued

UNREACHABLE = HandoffError("cloud_unreachable", "gone")
INVALID = HandoffError("cloud_invalid", "nonsense", sent=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(tmp_path: Path, clock: Clock) -> Iterator[Outbox]:
    with Outbox(OutboxLimits(tmp_path / "outbox"), clock) as opened:
        yield opened


def fill(outbox: Outbox, count: int) -> list[str]:
    results = [queued() for _ in range(count)]
    for number, result in enumerate(results):
        outbox.accept(f"question {number}", result)
    return [result.id for result in results]


def test_everything_is_delivered_in_order_under_its_own_key(outbox: Outbox) -> None:
    ids = fill(outbox, 3)
    cloud = FakeCloud()
    assert flush(outbox, Handoff(cloud, Policy())) == FlushReport(answered=3)
    assert cloud.asked == [(f"question {number}", ids[number]) for number in range(3)]
    stored = outbox.entries("answered")
    assert [entry.result.answer for entry in stored] == ["QUESTION 0", "QUESTION 1", "QUESTION 2"]
    assert {(entry.result.source, entry.result.reason) for entry in stored} == {
        ("cloud", "below_tau")
    }
    assert all(entry.result.timing_ms.handoff is not None for entry in stored)
    assert flush(outbox, Handoff(cloud, Policy())) == FlushReport()


def test_a_refusal_is_the_end_of_an_entry(outbox: Outbox) -> None:
    cloud = FakeCloud(lambda _: CloudAnswer("", "stop", 1, 1, refusal="No."))
    fill(outbox, 1)
    assert flush(outbox, Handoff(cloud, Policy())) == FlushReport(answered=1)
    (entry,) = outbox.entries("answered")
    assert (entry.result.answer, entry.result.reason) == (None, "cloud_refused")


@pytest.mark.parametrize("status", [429, 503, 521, 522, 523, 529, 530])
def test_a_cloud_that_is_down_or_full_ends_the_flush(outbox: Outbox, status: int) -> None:
    fill(outbox, 2)
    down = HandoffError("cloud_error", "down", status=status, sent=True)
    report = flush(outbox, Handoff(FakeCloud(failing(down)), Policy()))
    assert report == FlushReport(failed=1, remaining=2, stopped="cloud_error")


def test_a_limit_is_kept(outbox: Outbox) -> None:
    fill(outbox, 3)
    report = flush(outbox, Handoff(FakeCloud(), Policy()), FlushOptions(limit=2))
    assert report == FlushReport(answered=2, remaining=1)


def test_an_unreachable_cloud_is_tried_once(outbox: Outbox) -> None:
    fill(outbox, 5)
    cloud = FakeCloud(failing(UNREACHABLE))
    report = flush(outbox, Handoff(cloud, Policy()))
    assert report == FlushReport(failed=1, remaining=5, stopped="cloud_unreachable")
    assert len(cloud.asked) == 1


def test_one_bad_question_does_not_hold_up_the_others(outbox: Outbox, clock: Clock) -> None:
    fill(outbox, 3)
    cloud = FakeCloud(failing(INVALID, times=1))
    assert flush(outbox, Handoff(cloud, Policy())) == FlushReport(answered=2, failed=1, remaining=1)
    assert flush(outbox, Handoff(cloud, Policy())).remaining == 1  # not due yet
    clock.now += 6
    assert flush(outbox, Handoff(cloud, Policy())) == FlushReport(answered=1)
    keys = [key for _, key in cloud.asked]
    assert keys[0] == keys[-1]


def test_three_failures_in_a_row_end_it(outbox: Outbox) -> None:
    fill(outbox, 5)
    report = flush(outbox, Handoff(FakeCloud(failing(INVALID)), Policy()))
    assert report == FlushReport(failed=3, remaining=5, stopped="cloud_invalid")


def test_waits_grow_up_to_an_hour(outbox: Outbox, clock: Clock) -> None:
    fill(outbox, 1)
    handoff = Handoff(FakeCloud(failing(INVALID)), Policy())
    waits = []
    for _ in range(12):
        flush(outbox, handoff, FlushOptions(waiting=True))
        (entry,) = outbox.entries()
        waits.append(entry.not_before - clock.now)
    for number, wait in enumerate(waits):
        longest = min(5 * 2**number, 3600)
        assert longest / 2 <= wait <= longest


def test_the_clouds_own_wait_is_honoured(outbox: Outbox, clock: Clock) -> None:
    fill(outbox, 2)
    busy = HandoffError("cloud_error", "slow down", status=500, retry_after=120.0)
    handoff = Handoff(FakeCloud(failing(busy, times=1)), Policy())
    report = flush(outbox, handoff)
    assert report == FlushReport(failed=1, remaining=2, stopped="cloud_error", retry_after=120.0)
    assert outbox.entries()[0].not_before == clock.now + 120


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
def test_what_every_entry_would_meet_ends_it(outbox: Outbox, status: int) -> None:
    fill(outbox, 2)
    refusing = FakeCloud(failing(HandoffError("cloud_rejected", "no", status=status)))
    report = flush(outbox, Handoff(refusing, Policy()))
    assert report == FlushReport(failed=1, remaining=2, stopped="cloud_rejected")


def test_the_budget_is_honoured(outbox: Outbox, tmp_path: Path) -> None:
    fill(outbox, 5)
    cloud = FakeCloud()
    budget = DailyBudget(Budget(calls=2, file=tmp_path / "budget"))
    report = flush(outbox, Handoff(cloud, Policy(), budget))
    assert report == FlushReport(answered=2, remaining=3, stopped="budget")
    assert len(cloud.asked) == 2
    assert [entry.attempts for entry in outbox.entries("accepted")] == [0, 0, 0]
    budget.close()


def test_rules_made_since_are_honoured(outbox: Outbox) -> None:
    fill(outbox, 3)
    cloud = FakeCloud()
    report = flush(outbox, Handoff(cloud, Policy(never_send=("question 1",))))
    assert report == FlushReport(answered=2, withheld=1, remaining=1)
    assert [message for message, _ in cloud.asked] == ["question 0", "question 2"]


def test_an_answer_that_comes_twice_is_stored_once(outbox: Outbox, clock: Clock) -> None:
    fill(outbox, 1)

    def slow(message: str) -> str:
        """While this one is on its way, its lease ends and another flusher delivers it."""
        clock.now += 301
        if len(cloud.asked) == 1:
            assert flush(outbox, Handoff(FakeCloud(lambda _: "first"), Policy())).answered == 1
        return "second"

    cloud = FakeCloud(slow)
    assert flush(outbox, Handoff(cloud, Policy())) == FlushReport(duplicates=1)
    assert outbox.entries()[0].result.answer == "first"


def test_an_interrupted_flush_gives_its_entry_back(outbox: Outbox) -> None:
    fill(outbox, 1)

    def interrupt(message: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        flush(outbox, Handoff(FakeCloud(interrupt), Policy()))
    assert flush(outbox, Handoff(FakeCloud(), Policy())) == FlushReport(answered=1)


def test_flushers_at_the_same_time_deliver_each_entry_once(tmp_path: Path) -> None:
    limits = OutboxLimits(tmp_path / "outbox")
    with Outbox(limits) as outbox:
        fill(outbox, 60)
    clouds = [FakeCloud() for _ in range(4)]
    reports = []

    def work(cloud: FakeCloud) -> None:
        with Outbox(limits) as own:
            reports.append(flush(own, Handoff(cloud, Policy())))

    threads = [threading.Thread(target=work, args=(cloud,)) for cloud in clouds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.answered for report in reports) == 60
    asked = Counter(key for cloud in clouds for _, key in cloud.asked)
    assert len(asked) == 60
    assert set(asked.values()) == {1}


def test_nothing_is_lost_among_faults(outbox: Outbox, clock: Clock) -> None:
    ids = fill(outbox, 200)
    dice = random.Random(0)
    faults = (UNREACHABLE, INVALID, HandoffError("cloud_timeout", "slow", sent=True))

    def answer(message: str) -> str:
        if dice.random() < 0.3:
            raise dice.choice(faults)
        return message.upper()

    handoff = Handoff(FakeCloud(answer), Policy())
    answered = 0
    while True:
        report = flush(outbox, handoff)
        answered += report.answered
        if not report.remaining:
            break
        clock.now += 3600
    assert answered == 200
    entries = outbox.entries("answered")
    assert [entry.id for entry in entries] == ids
    assert all(entry.result.answer == entry.question.upper() for entry in entries)
