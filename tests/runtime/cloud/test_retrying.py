"""Which endpoint is asked next, and when, without any waiting."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest

from foggen_runtime.cloud.retrying import (
    Itinerary,
    Tries,
    full_jitter,
    is_safe_to_retry,
    read_retry_after,
)
from foggen_runtime.errors import HandoffError

NOW = datetime(2026, 11, 22, 23, 59, 58, tzinfo=UTC)


def itinerary(endpoints: int = 1, max_retries: int = 2, deadline: float = 60.0) -> Itinerary:
    return Itinerary(Tries(endpoints, max_retries, deadline, jitter=lambda limit: limit), 0.0)


def unreachable() -> HandoffError:
    return HandoffError("cloud_unreachable", "refused")


def busy(retry_after: float | None = None) -> HandoffError:
    return HandoffError("cloud_rejected", "busy", status=429, retry_after=retry_after, sent=True)


def silent() -> HandoffError:
    return HandoffError("cloud_timeout", "silent", sent=True)


def steps(plan: Itinerary, *failures: HandoffError) -> list[tuple[int, float]]:
    """Fail as told; return each endpoint asked, and when."""
    now, asked = 0.0, []
    for failure in failures:
        index, wait = plan.next(now)
        now += wait
        asked.append((index, now))
        plan.began(index)
        plan.failed(index, failure, now)
    return asked


def test_waits_double_with_each_retry_up_to_a_limit() -> None:
    plan = itinerary(max_retries=8, deadline=1e9)
    times = [time for _, time in steps(plan, *[unreachable()] * 9)]
    waits = [after - before for before, after in pairwise(times)]
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 8, 8]


def test_jitter_is_drawn_from_zero_to_the_limit() -> None:
    draws = [full_jitter(2.0) for _ in range(2000)]
    assert 0 <= min(draws) < 0.1
    assert 1.9 < max(draws) <= 2
    assert sum(draws) / len(draws) == pytest.approx(1, abs=0.1)


def test_retries_end_with_the_last_failure() -> None:
    plan = itinerary()
    last = busy()
    steps(plan, unreachable(), busy(), last)
    with pytest.raises(HandoffError) as caught:
        plan.next(10.0)
    assert caught.value is last
    assert plan.attempts == 3


def test_retry_after_is_waited_for_with_jitter_on_top() -> None:
    assert steps(itinerary(), busy(retry_after=7), busy()) == [(0, 0), (0, 7.25)]


def test_a_retry_after_beyond_the_time_left_ends_at_once() -> None:
    plan = itinerary(deadline=5.0)
    steps(plan, busy(retry_after=5))
    with pytest.raises(HandoffError) as caught:
        plan.next(0.0)
    assert caught.value.retry_after == 5


def test_nothing_is_tried_after_the_deadline() -> None:
    plan = itinerary(endpoints=2, deadline=5.0)
    steps(plan, silent())
    with pytest.raises(HandoffError, match="silent"):
        plan.next(5.0)


def test_the_next_endpoint_is_asked_at_once_and_the_first_again_when_it_is_ready() -> None:
    plan = itinerary(endpoints=2, max_retries=1)
    asked = steps(plan, unreachable(), busy(retry_after=9), unreachable(), busy())
    assert asked == [(0, 0), (1, 0), (0, 0.25), (1, 9.25)]


@pytest.mark.parametrize(
    ("status", "safe"),
    [(400, False), (401, False), (404, False), (422, False), (200, False)]
    + [(status, True) for status in (408, 409, 425, 429, 498, 500, 502, 503, 504, 507, 599)]
    + [(status, True) for status in (520, 521, 522, 523, 524, 525, 529, 530)]
    + [(status, False) for status in (501, 505, 506, 508, 510, 511, 526, 600)],
)
def test_a_status_that_says_there_is_no_answer_yet_is_retried(status: int, safe: bool) -> None:
    assert is_safe_to_retry(HandoffError("any", "", status=status, sent=True)) == safe


@pytest.mark.parametrize(
    ("reason", "sent", "safe"),
    [
        ("cloud_unreachable", False, True),
        ("cloud_unreachable", True, False),
        ("cloud_timeout", True, False),
        ("cloud_timeout", False, False),
        ("cloud_invalid", True, False),
    ],
)
def test_what_may_be_under_way_is_not_retried(reason: str, sent: bool, safe: bool) -> None:
    assert is_safe_to_retry(HandoffError(reason, "", sent=sent)) == safe


def test_an_unsafe_failure_leaves_that_endpoint_but_not_the_others() -> None:
    plan = itinerary(endpoints=2)
    asked = steps(plan, silent(), unreachable(), unreachable(), unreachable())
    assert [index for index, _ in asked] == [0, 1, 1, 1]


def test_the_error_tells_whether_any_attempt_was_sent() -> None:
    plan = itinerary(endpoints=2, max_retries=0)
    steps(plan, silent(), unreachable())
    with pytest.raises(HandoffError, match="refused") as caught:
        plan.next(0.0)
    assert caught.value.sent


def test_what_an_attempt_met_tells_more_than_an_open_breaker() -> None:
    opened = HandoffError("cloud_unreachable", "open")
    for order in ((0, 1), (1, 0)):
        plan = itinerary(endpoints=2, max_retries=0)
        for index in order:
            if index:
                plan.refused(index, opened)
            else:
                plan.began(index)
                plan.failed(index, busy(), 0.0)
        with pytest.raises(HandoffError, match="busy"):
            plan.next(0.0)
    plan = itinerary()
    plan.refused(0, opened)
    with pytest.raises(HandoffError, match="open"):
        plan.next(0.0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 400, 86_400.0),
        ("Mon, 23 Nov 2026 00:00:28 GMT", 30.0),
        ("Monday, 23-Nov-26 00:00:28 GMT", 30.0),
        ("Mon Nov 23 00:00:28 2026", 30.0),
        ("Sun, 22 Nov 2026 00:00:00 GMT", 0.0),
        ("Sat, 01 Jan 2050 00:00:00 GMT", 86_400.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("١٢", None),
        ("Mon, 99 Nov 2026 00:00:28 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    assert read_retry_after({"Retry-After": value}, NOW) == seconds


def test_a_date_is_compared_with_the_servers_clock_not_ours() -> None:
    servers = datetime(1999, 1, 1, tzinfo=UTC)
    until = format_datetime(servers + timedelta(seconds=45), usegmt=True)
    headers = {"Retry-After": until, "Date": format_datetime(servers, usegmt=True)}
    assert read_retry_after(headers, NOW) == 45
    assert read_retry_after({"Retry-After": until}, NOW) == 0
    assert read_retry_after({"Retry-After": until, "Date": "broken"}, NOW) == 0


def test_no_header_asks_for_nothing() -> None:
    assert read_retry_after({}, NOW) is None
