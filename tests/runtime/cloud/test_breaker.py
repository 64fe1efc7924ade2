"""The circuit breaker, by a clock of the test's own."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from foggen_runtime.cloud.breaker import Breaker, BreakerLimits, BreakerOpenError
from foggen_runtime.errors import HandoffError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Harness:
    def __init__(self, failures: int = 3, cooldown: float = 30.0) -> None:
        self.clock = Clock()
        self.breaker = Breaker("http://cloud/v1", BreakerLimits(failures, cooldown), self.clock)

    def fail(self, times: int = 1, status: int | None = None) -> None:
        for _ in range(times):
            with pytest.raises(HandoffError, match="broken"), self.breaker.attempt():
                raise HandoffError("cloud_error", "broken", status=status)

    def succeed(self) -> None:
        with self.breaker.attempt():
            pass

    def refusal(self) -> BreakerOpenError:
        with pytest.raises(BreakerOpenError) as caught, self.breaker.attempt():
            pytest.fail("passed an open breaker")
        return caught.value


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_it_opens_after_failures_in_a_row_and_says_until_when(harness: Harness) -> None:
    harness.fail(2)
    assert harness.breaker.passes
    harness.fail()
    assert not harness.breaker.passes
    harness.clock.now += 6.5
    error = harness.refusal()
    assert (error.reason, error.retry_after, error.sent) == ("cloud_unreachable", 23.5, False)
    assert "http://cloud/v1: circuit breaker open after 3 failures in a row" in str(error)
    assert "another 23.5 s" in str(error)


def test_a_success_begins_the_count_anew(harness: Harness) -> None:
    harness.fail(2)
    harness.succeed()
    harness.fail(2)
    assert harness.breaker.passes


@pytest.mark.parametrize("status", [400, 401, 404, 429])
def test_a_server_that_refuses_is_well(harness: Harness, status: int) -> None:
    harness.fail(2)
    harness.fail(status=status)
    harness.fail(2)
    assert harness.breaker.passes


@pytest.mark.parametrize("status", [200, 302, 500, 503])
def test_a_server_that_does_not_answer_is_not(harness: Harness, status: int) -> None:
    harness.fail(3, status=status)
    assert not harness.breaker.passes


def test_after_the_cool_down_one_probe_passes_and_closes_it(harness: Harness) -> None:
    harness.fail(3)
    harness.clock.now += 30
    assert harness.breaker.passes
    with harness.breaker.attempt():
        assert not harness.breaker.passes
        error = harness.refusal()
        assert "until the probe that is under way has ended" in str(error)
    harness.fail(2)
    assert harness.breaker.passes


def test_a_failed_probe_opens_it_for_another_cool_down(harness: Harness) -> None:
    harness.fail(3)
    harness.clock.now += 30
    harness.fail()
    assert harness.refusal().retry_after == 30
    harness.clock.now += 30
    harness.succeed()
    assert harness.breaker.passes


def test_a_probe_that_was_given_up_tells_nothing_and_makes_room(harness: Harness) -> None:
    harness.fail(3)
    harness.clock.now += 30
    with pytest.raises(KeyboardInterrupt), harness.breaker.attempt():
        raise KeyboardInterrupt
    with harness.breaker.attempt():
        harness.refusal()


def test_attempts_from_before_an_opening_do_not_count_after_it(harness: Harness) -> None:
    late_failure, late_success = harness.breaker.attempt(), harness.breaker.attempt()
    late_failure.__enter__()
    late_success.__enter__()
    harness.fail(3)
    harness.clock.now += 30
    with harness.breaker.attempt():
        late_success.__exit__(None, None, None)
        error = HandoffError("cloud_timeout", "late")
        assert not late_failure.__exit__(HandoffError, error, None)
        harness.refusal()
    assert harness.breaker.passes


def test_one_probe_passes_whoever_asks() -> None:
    harness = Harness()
    harness.fail(3)
    harness.clock.now += 30
    together, ended = threading.Barrier(8), threading.Barrier(8)

    def probe(_: int) -> bool:
        together.wait()
        try:
            with harness.breaker.attempt():
                ended.wait()
                return True
        except BreakerOpenError:
            ended.wait()
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(probe, range(8))) == 1
