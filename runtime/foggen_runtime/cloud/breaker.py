"""A circuit breaker: an endpoint that keeps failing is not asked for a while.

closed ── failures in a row ──> open ── cool-down over ──> half-open ── one probe ──> closed or open

The pattern is Nygard's (Release It!, chapter 5).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from foggen_runtime.errors import HandoffError


class BreakerOpenError(HandoffError):
    """The endpoint is not being asked for now; nothing was sent."""


@dataclass(frozen=True)
class BreakerLimits:
    """When a breaker opens, and for how long.

    Attributes:
        failures: Failures in a row that open it.
        cooldown: Seconds until one attempt may probe it.
    """

    failures: int
    cooldown: float


class Breaker:
    """One endpoint's breaker, safe to share between threads."""

    def __init__(
        self, name: str, limits: BreakerLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start closed.

        Args:
            name: The endpoint, for messages.
            limits: When to open.
            clock: Seconds that never run backwards.
        """
        self._name = name
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._opened: float | None = None  # by the clock; None while closed
        self._probing = False
        self._period = 0  # counts the openings and closings

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Let one attempt pass, and learn from how it ends.

        A `HandoffError` is a failure, unless a status below 500 shows that the server is well. Any
        other way out, such as a caller that gave up, says nothing about the server.

        Raises:
            BreakerOpenError: Its reason is `cloud_unreachable`, and it has a `retry_after`.
        """
        period = self._enter()
        well: bool | None = None
        try:
            yield
            well = True
        except HandoffError as error:
            well = error.status is not None and 400 <= error.status < 500
            raise
        finally:
            self._leave(period, well)

    @property
    def passes(self) -> bool:
        """Whether an attempt would pass now."""
        with self._lock:
            return self._opened is None or (self._left(self._opened) <= 0 and not self._probing)

    def _enter(self) -> int:
        with self._lock:
            if self._opened is not None:
                left = self._left(self._opened)
                if left > 0 or self._probing:
                    raise self._refusal(max(left, 0.0))
                self._probing = True
            return self._period

    def _leave(self, period: int, well: bool | None) -> None:
        """Count an attempt's end; one that began before the last opening or closing is stale."""
        with self._lock:
            if period != self._period:
                return
            probe, self._probing = self._probing, False
            if well is None:
                return
            self._failures = 0 if well else self._failures + 1
            if well and probe:
                self._opened = None
                self._period += 1
            elif self._failures >= self._limits.failures:
                self._opened = self._clock()
                self._period += 1

    def _left(self, opened: float) -> float:
        return opened + self._limits.cooldown - self._clock()

    def _refusal(self, left: float) -> BreakerOpenError:
        if left:
            until = (datetime.now(UTC) + timedelta(seconds=left)).isoformat(timespec="seconds")
            when = f"until {until}, another {left:.1f} s"
        else:
            when = "until the probe that is under way has ended"
        what = f"circuit breaker open after {self._failures} failures in a row"
        return BreakerOpenError(
            "cloud_unreachable", f"cloud: {self._name}: {what}, {when}", retry_after=left
        )
