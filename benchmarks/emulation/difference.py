"""How far two machines' decisions on the same questions differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.emulation.decisions import Decided
from foggen_runtime.statistics.intervals import upper_bound


@dataclass(frozen=True)
class Difference:
    """Decisions against a reference's; shares are of all questions.

    Attributes:
        flips: Questions answered locally by one and deferred by the other.
        flip_rate: Their share.
        flip_rate_upper_bound: Its exact one-sided 95 % upper bound.
        level_changes: Share whose verbalized level differs.
        answer_agreement: Share with the same option letter.
        confidence_change: Mean absolute change of the expected confidence; None where either never
            gave one.
    """

    flips: int
    flip_rate: float
    flip_rate_upper_bound: float
    level_changes: float
    answer_agreement: float
    confidence_change: float | None


def differ(decisions: Sequence[Decided], reference: Sequence[Decided]) -> Difference:
    """Compare; both must be of the same questions, at least one."""
    pairs = list(zip(decisions, reference, strict=True))
    total = len(pairs)
    flips = sum(one.kept != other.kept for one, other in pairs)
    changes = [
        abs(one.expected_confidence - other.expected_confidence)
        for one, other in pairs
        if one.expected_confidence is not None and other.expected_confidence is not None
    ]
    return Difference(
        flips=flips,
        flip_rate=flips / total,
        flip_rate_upper_bound=upper_bound(flips, total),
        level_changes=sum(one.confidence != other.confidence for one, other in pairs) / total,
        answer_agreement=sum(one.choice == other.choice for one, other in pairs) / total,
        confidence_change=fmean(changes) if changes else None,
    )
