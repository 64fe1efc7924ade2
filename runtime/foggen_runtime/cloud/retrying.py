"""Which endpoint is asked next, and when: retries with backoff, and failing over.

The same endpoint is asked again only if the question cannot be answered twice: the connection
failed before it was sent, or the server's status says that it has not answered but may do so later.
After any other failure (silence, a broken answer) the server may still be working on it; asking
again would add load and cost, so the next endpoint is asked. Once a piece of the answer has been
handed out, nothing is asked again.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from foggen_runtime.errors import HandoffError

# Request timeout, conflict with the same key in progress, too early, too many requests, and Groq's
# code for no capacity.
_TRANSIENT = frozenset({408, 409, 425, 429, 498})
# Server failures that the next attempt would meet too: no such method or version, a loop, a network
# to sign in to, a certificate that Cloudflare refuses. Any other may pass, even if its number is
# not standardized (RFC 9110, section 15: it then means 500), such as Cloudflare's 520 to 524 and
# 530, and Anthropic's 529.
_LASTING = frozenset({501, 505, 506, 508, 510, 511, 526})
_FIRST_BACKOFF = 0.25  # seconds, doubled by each retry
_MAX_BACKOFF = 8.0  # seconds
_DAY = 86_400.0  # seconds

# Returns a random number of seconds up to its argument.
Jitter = Callable[[float], float]


def full_jitter(limit: float) -> float:
    """Draw a wait between 0 and the limit, so that clients do not all come back at once.

    "Full jitter" of Brooker, Exponential Backoff And Jitter (AWS Architecture Blog, 2015).
    """
    return random.uniform(0, limit)


def is_safe_to_retry(error: HandoffError) -> bool:
    """Return whether the same endpoint may be asked again."""
    if error.status is not None:
        failed = error.status // 100 == 5 and error.status not in _LASTING
        return failed or error.status in _TRANSIENT
    return error.reason == "cloud_unreachable" and not error.sent


def read_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read `Retry-After`: seconds, or an HTTP date (RFC 9110, section 10.2.3).

    Args:
        headers: The response's; case does not matter.
        now: The time to compare a date with if the server does not send its own in `Date`, which is
            preferred because a board's clock may be far off.

    Returns:
        Seconds from now, at least 0 and at most a day, or None if there is no such header.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _DAY)
    until = _read_date(value)
    if until is None:
        return None
    seconds = (until - (_read_date(headers.get("Date", "")) or now)).total_seconds()
    return min(max(seconds, 0.0), _DAY)


def _read_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date


@dataclass
class _Candidate:
    """An endpoint during one question: when it may be asked, and how often it has been."""

    index: int
    ready: float
    attempts: int = 0


@dataclass(frozen=True)
class Tries:
    """How often and how long one question may be tried.

    Attributes:
        endpoints: How many endpoints there are.
        max_retries: Attempts at each after its first.
        deadline: When the question's time is up, by the clock that `now` is taken from.
        jitter: Draws the waits.
    """

    endpoints: int
    max_retries: int
    deadline: float
    jitter: Jitter = full_jitter


class Itinerary:
    """Plans the attempts of one question; does not wait itself.

    Attributes:
        attempts: How many were made so far.
    """

    def __init__(self, tries: Tries, now: float) -> None:
        self.attempts = 0
        self._tries = tries
        self._candidates = [_Candidate(index, now) for index in range(tries.endpoints)]
        self._failure: HandoffError | None = None
        self._sent = False

    def next(self, now: float) -> tuple[int, float]:
        """Return the endpoint to ask, the first of several, and the seconds to wait before that.

        Raises:
            HandoffError: Nothing is left to try; this is the last failure.
        """
        if self._failure and (not self._candidates or now >= self._tries.deadline):
            self._failure.sent = self._sent
            raise self._failure
        ready = [candidate for candidate in self._candidates if candidate.ready <= now]
        chosen = ready[0] if ready else min(self._candidates, key=lambda each: each.ready)
        return chosen.index, max(0.0, chosen.ready - now)

    @property
    def last(self) -> bool:
        """Whether no other endpoint can be asked."""
        return len(self._candidates) == 1

    def began(self, index: int) -> None:
        """Count an attempt."""
        self.attempts += 1
        self._candidate(index).attempts += 1

    def failed(self, index: int, error: HandoffError, now: float) -> None:
        """Note a failure, and when to ask that endpoint again, if at all."""
        candidate = self._candidate(index)
        self._failure = error
        self._sent = self._sent or error.sent
        backoff = min(_MAX_BACKOFF, _FIRST_BACKOFF * 2 ** (candidate.attempts - 1))
        candidate.ready = now + (error.retry_after or 0.0) + self._tries.jitter(backoff)
        if (
            candidate.attempts > self._tries.max_retries
            or candidate.ready >= self._tries.deadline
            or not is_safe_to_retry(error)
        ):
            self._candidates.remove(candidate)

    def refused(self, index: int, error: HandoffError) -> None:
        """Skip an endpoint whose breaker is open; a real attempt's failure, if any, says more."""
        self._candidates.remove(self._candidate(index))
        self._failure = self._failure or error

    def _candidate(self, index: int) -> _Candidate:
        return next(each for each in self._candidates if each.index == index)
