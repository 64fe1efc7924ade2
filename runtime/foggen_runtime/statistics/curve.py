"""How well confidence separates right from wrong, and what routing by it is worth.

With five levels, many questions tie. Where a figure needs an order, we take the expectation over
random orders of tied questions: between two levels, shares and accuracies change linearly.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from foggen_runtime.statistics.arrays import Bool, Float64


@dataclass(frozen=True)
class Curve:
    """What routing yields as more questions go to the cloud, the least confident first.

    Attributes:
        routed: (points,) shares of questions routed, from 0 to 1.
        accuracy: (points,) the system's accuracy there; between points it is linear.
        kept_errors: (points,) wrong local answers among the kept, as a share of all questions.
    """

    routed: Float64
    accuracy: Float64
    kept_errors: Float64

    @classmethod
    def of(cls, confidence: Float64, local_correct: Bool, cloud_correct: Float64) -> Self:
        """Sort by confidence, and sum over groups of equal confidence.

        Args:
            confidence: (questions,) minus infinity where the output was malformed.
            local_correct: (questions,) whether the local answer is right.
            cloud_correct: (questions,) 1 where the cloud's is, 0 where not, not-a-number where
                that is not known.
        """
        _, group = np.unique(confidence, return_inverse=True)
        total = len(confidence)
        sizes = np.bincount(group)
        local = np.bincount(group, local_correct)
        cloud = np.bincount(group, cloud_correct)
        routed = np.concatenate([[0.0], np.cumsum(sizes)]) / total
        kept = np.concatenate([[0.0], np.cumsum(cloud - local)]) + local.sum()
        wrong = (sizes - local).sum() - np.concatenate([[0.0], np.cumsum(sizes - local)])
        return cls(routed, kept / total, wrong / total)

    def accuracy_at(self, share: float) -> float:
        """Return the accuracy with a share of the questions routed."""
        return float(np.interp(share, self.routed, self.accuracy))

    @property
    def weak(self) -> float:
        """The accuracy of answering everything locally."""
        return float(self.accuracy[0])

    @property
    def strong(self) -> float:
        """The accuracy of routing everything."""
        return float(self.accuracy[-1])


def recovered(curve: Curve, share: float) -> float | None:
    """Return the performance gap recovered, PGR, with a share of the questions routed.

    PGR = (system - weak) / (strong - weak) (RouteLLM, arXiv 2406.18665, section 2). None where the
    cloud is no better.
    """
    gap = curve.strong - curve.weak
    return (curve.accuracy_at(share) - curve.weak) / gap if gap > 0 else None


def average_recovered(curve: Curve) -> float | None:
    """Return APGR: the mean PGR with 10 %, 20 %, … 100 % of the questions routed (RouteLLM)."""
    shares = [recovered(curve, step / 10) for step in range(1, 11)]
    values = [share for share in shares if share is not None]
    return sum(values) / len(values) if values else None


def call_share_for(curve: Curve, target: float) -> float | None:
    """Return CPT: the least share of calls that recovers `target` of the gap (RouteLLM).

    None if no share does.
    """
    gap = curve.strong - curve.weak
    if gap <= 0:
        return None
    gained = (curve.accuracy - curve.weak) / gap
    reached = np.flatnonzero(gained >= target - 1e-12)
    if not len(reached):
        return None
    last = int(reached[0])
    if last == 0:
        return 0.0
    rise = gained[last] - gained[last - 1]
    step = (target - gained[last - 1]) / rise
    return float(curve.routed[last - 1] + step * (curve.routed[last] - curve.routed[last - 1]))


@dataclass(frozen=True)
class Costs:
    """What a question costs each side, in one unit, e.g. AutoMix's 1 and 50."""

    local: float
    cloud: float


def incremental_benefit_lift(curve: Curve, share: float, costs: Costs) -> float | None:
    """Return AutoMix's lift of incremental benefit per cost, as a share.

    IBC = (accuracy - weak) / (cost - local cost), for the system and for always asking the cloud;
    the lift is their quotient less 1 (arXiv 2310.12963, section 4). Routed questions pay for the
    local model, too. None if it is undefined.
    """
    extra = costs.cloud
    spent = share * extra
    base = (curve.strong - curve.weak) / (costs.cloud - costs.local)
    if spent <= 0 or base <= 0 or costs.cloud <= costs.local:
        return None
    return (curve.accuracy_at(share) - curve.weak) / spent / base - 1


def risk_coverage_area(curve: Curve) -> float:
    """Return AURC: the mean share of errors among the kept, over all shares kept.

    After Geifman, Uziel and El-Yaniv, arXiv 1805.08206, as an integral over coverage; between
    groups of equal confidence the kept errors change linearly.
    """
    coverage = (1 - curve.routed)[::-1]
    errors = curve.kept_errors[::-1]
    area = 0.0
    for start, end, low, high in zip(coverage, coverage[1:], errors, errors[1:], strict=False):
        slope = (high - low) / (end - start)
        constant = low - slope * start
        area += slope * (end - start)
        if constant and start > 0:
            area += constant * float(np.log(end / start))
    return float(area)
