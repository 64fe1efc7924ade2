"""Delivering what waits in the outbox."""

import random
import time
from dataclasses import dataclass, replace

from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.errors import CancelledError, HandoffError
from foggen_runtime.handoff.outbox import MAX_WAIT, Entry, Outbox
from foggen_runtime.handoff.sending import Handoff
from foggen_runtime.result import Result

_FIRST_WAIT = 5.0  # seconds, doubled with each attempt
_FAILURES_IN_A_ROW = 3
# Failures that the next entry would meet as well.
_GENERAL = {"cloud_unreachable", "cloud_timeout", "budget", "budget_failed"}
_GENERAL_STATUSES = {401, 402, 403, 404, 429, 498, 503, 521, 522, 523, 529, 530}
# With these, nothing was sent, so they do not count as failed deliveries.
_HELD_BACK = {"never_send", "budget", "budget_failed"}


@dataclass(frozen=True)
class FlushOptions:
    """How to flush.

    Attributes:
        limit: The most entries to deliver; None for all.
        waiting: Whether to include entries whose next attempt is not due yet.
        lease_seconds: How long other flushers must not touch an entry; longer than the cloud's
            total timeout.
        cancellation: Lets another thread end the flush, even in the middle of a delivery.
    """

    limit: int | None = None
    waiting: bool = False
    lease_seconds: float = 300.0
    cancellation: Cancellation | None = None


@dataclass(frozen=True)
class FlushReport:
    """What a flush achieved.

    Attributes:
        answered: Entries that were answered.
        duplicates: Answers thrown away because another flusher's was stored first.
        failed: Deliveries that failed.
        withheld: Entries that a never-send rule holds back.
        remaining: Entries that still wait, whoever holds them.
        stopped: Why the flush ended early, e.g. `cloud_unreachable`; None if it did not.
        retry_after: Seconds that the cloud asked us to wait; None if it did not.
    """

    answered: int = 0
    duplicates: int = 0
    failed: int = 0
    withheld: int = 0
    remaining: int = 0
    stopped: str | None = None
    retry_after: float | None = None


def flush(outbox: Outbox, handoff: Handoff, options: FlushOptions | None = None) -> FlushReport:
    """Deliver what is due, oldest first, and store the answers.

    It ends early if the next entry would fail as well: the cloud cannot be reached, takes too long,
    asks us to wait or refuses the key; the budget is used up; or three deliveries in a row failed.
    If it is cancelled, `stopped` is `cancelled`.

    Raises:
        StateError: The outbox cannot be read or written; answers stored before are safe.
    """
    options = options or FlushOptions()
    report = FlushReport()
    seq = delivered = in_a_row = 0
    while report.stopped is None and delivered != options.limit:
        entry = outbox.claim(seq, options.lease_seconds, waiting=options.waiting)
        if entry is None:
            break
        seq, delivered = entry.seq, delivered + 1
        try:
            result = _deliver(entry, handoff, options.cancellation)
        except CancelledError:
            outbox.put_back(entry, "cancelled", 0.0, attempted=False)
            report = replace(report, stopped="cancelled")
        except HandoffError as error:
            report = _failed(report, outbox, entry, error)
            in_a_row += error.reason != "never_send"
            if in_a_row == _FAILURES_IN_A_ROW and report.stopped is None:
                report = replace(report, stopped=error.reason)
        except BaseException:
            outbox.put_back(entry, "cancelled", 0.0, attempted=False)
            raise
        else:
            in_a_row = 0
            first = outbox.answer(entry, result)
            report = replace(
                report,
                answered=report.answered + first,
                duplicates=report.duplicates + (not first),
            )
    return replace(report, remaining=outbox.counts().accepted)


def _deliver(entry: Entry, handoff: Handoff, cancellation: Cancellation | None) -> Result:
    started = time.perf_counter()
    (answer,) = (
        event
        for event in handoff.complete(entry.question, entry.id, cancellation)
        if isinstance(event, CloudAnswer)
    )
    timing = replace(entry.result.timing_ms, handoff=1e3 * (time.perf_counter() - started))
    return replace(handoff.answered(entry.result, entry.question, answer), timing_ms=timing)


def _failed(report: FlushReport, outbox: Outbox, entry: Entry, error: HandoffError) -> FlushReport:
    """Put an entry back, and count the reason."""
    sent = error.reason not in _HELD_BACK
    outbox.put_back(entry, error.reason, _wait(entry, error), attempted=sent)
    general = (
        error.reason in _GENERAL
        or error.status in _GENERAL_STATUSES
        or error.retry_after is not None
    )
    return replace(
        report,
        failed=report.failed + sent,
        withheld=report.withheld + (error.reason == "never_send"),
        stopped=error.reason if general else None,
        retry_after=error.retry_after,
    )


def _wait(entry: Entry, error: HandoffError) -> float:
    """Return the seconds to the entry's next attempt."""
    if error.reason in ("budget", "budget_failed"):
        return 0.0
    if error.reason == "never_send":
        return MAX_WAIT
    if error.retry_after is not None:
        return error.retry_after
    longest: float = min(_FIRST_WAIT * 2.0 ** min(entry.attempts, 30), MAX_WAIT)
    return random.uniform(longest / 2, longest)
