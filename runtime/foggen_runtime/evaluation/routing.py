"""What a threshold does to recorded decisions: who answers, how well, at what cost.

A question is routed to the cloud when its confidence is below tau; with equal confidence it stays,
as in the runtime.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foggen_runtime.bundle.manifest import ConfidenceKind
from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.statistics.arrays import Bool, Float64
from foggen_runtime.statistics.curve import Curve


@dataclass(frozen=True)
class Prices:
    """What a call of the cloud costs, in any one currency.

    The cloud's prompt and answer are assumed to have as many tokens as the local ones.

    Attributes:
        per_call: For each call.
        per_million_prompt: For a million tokens of prompts.
        per_million_completion: For a million tokens of answers.
    """

    per_call: float = 0.0
    per_million_prompt: float = 0.0
    per_million_completion: float = 0.0

    def __post_init__(self) -> None:
        for name in ("per_call", "per_million_prompt", "per_million_completion"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"prices: {name} must be at least 0, is {getattr(self, name)}")

    def of(self, decisions: Decisions) -> Float64:
        """Return what each question costs if the cloud answers it."""
        tokens = (
            decisions.prompt_tokens * self.per_million_prompt
            + decisions.decoded_tokens * self.per_million_completion
        )
        return self.per_call + tokens / 1e6


@dataclass(frozen=True)
class Point:
    """The system at one threshold; None where the cloud's correctness is not known.

    Attributes:
        tau: The threshold.
        routed_share: Share of questions that go to the cloud.
        system_accuracy: Share of right answers, whoever gives them.
        random_accuracy: The same, expected of routing as many questions at random.
        lift: `system_accuracy` less `random_accuracy`.
        kept_accuracy: Share of right answers among those kept; None if none is kept.
        cost: The cloud's price for each question, routed or not.
    """

    tau: float
    routed_share: float
    system_accuracy: float | None
    random_accuracy: float | None
    lift: float | None
    kept_accuracy: float | None
    cost: float


@dataclass(frozen=True)
class Sweep:
    """Sums over recorded decisions in the order of their confidence, for any number of thresholds.

    Attributes:
        confidence: (questions,) in ascending order.
        local: (questions + 1,) right local answers among the first 0, 1, 2, ...
        cloud: The same of the cloud.
        cost: The same of the cloud's prices.
    """

    confidence: Float64
    local: Float64
    cloud: Float64
    cost: Float64

    @classmethod
    def of(cls, decisions: Decisions, kind: ConfidenceKind, prices: Prices) -> "Sweep":
        """Sort and sum."""
        confidence = decisions.confidence(kind)
        order = np.argsort(confidence, kind="stable")
        return cls(
            confidence[order],
            _running(decisions.local_correct[order].astype(np.float64)),
            _running(decisions.cloud_correct[order]),
            _running(prices.of(decisions)[order]),
        )

    def at(self, tau: float) -> Point:
        """Return the system at a threshold."""
        total = len(self.confidence)
        routed = int(np.searchsorted(self.confidence, tau, side="left"))
        share = routed / total
        right_here = self.local[-1] - self.local[routed]
        kept = total - routed
        system = random = lift = None
        if not np.isnan(self.cloud[-1]):
            system = float(self.cloud[routed] + right_here) / total
            random = float((1 - share) * self.local[-1] + share * self.cloud[-1]) / total
            lift = system - random
        return Point(
            tau,
            share,
            system,
            random,
            lift,
            kept_accuracy=float(right_here) / kept if kept else None,
            cost=float(self.cost[routed]) / total,
        )


def sweep(
    decisions: Decisions,
    taus: Sequence[float],
    kind: ConfidenceKind = "verbalized",
    prices: Prices | None = None,
) -> tuple[Point, ...]:
    """Return the system at each threshold."""
    sums = Sweep.of(decisions, kind, prices or Prices())
    return tuple(sums.at(tau) for tau in taus)


def routed(decisions: Decisions, tau: float, kind: ConfidenceKind = "verbalized") -> Bool:
    """Return which questions go to the cloud."""
    return decisions.confidence(kind) < tau


def curve(decisions: Decisions, kind: ConfidenceKind = "verbalized") -> Curve:
    """Return what routing gives at any share of the questions."""
    return Curve.of(decisions.confidence(kind), decisions.local_correct, decisions.cloud_correct)


def _running(values: Float64) -> Float64:
    return np.concatenate([[0.0], np.cumsum(values)])
