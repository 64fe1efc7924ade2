"""Choosing tau for a target.

Without a confidence, tau is the best that meets the target on the calibration questions themselves.
With one, it is the best of fixed candidates that also meets it on new questions, by an exact bound
(`guarantee`).
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from foggen_runtime.bundle.manifest import ConfidenceKind
from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.evaluation.routing import Point, Prices, routed, sweep
from foggen_runtime.statistics.guarantee import Limit, bounds, grid, within

TargetName = Literal["max_cloud_share", "min_accuracy", "max_cost", "max_risk"]
_KEEPING = ("max_risk", "min_accuracy")


@dataclass(frozen=True)
class Target:
    """What tau should achieve.

    Attributes:
        name: `max_cloud_share`: share of questions routed; `min_accuracy`: of the system;
            `max_cost`: of the cloud for each question asked; `max_risk`: share of wrong answers
            among those kept.
        limit: The value.
        certainty: How certainly it should hold on new questions; None for on the data only.
        on: Which confidence tau is compared with.
        prices: What the cloud costs, for `max_cost`.
    """

    name: TargetName
    limit: float
    certainty: float | None = None
    on: ConfidenceKind = "verbalized"
    prices: Prices = field(default_factory=Prices)

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= (math.inf if self.name == "max_cost" else 1):
            rule = "at least 0" if self.name == "max_cost" else "within [0, 1]"
            raise ConfigError(f"{self.name}: must be {rule}, is {self.limit}")
        if self.name == "max_risk" and self.certainty is None:
            raise ConfigError("confidence: must be given with max_risk, is not")
        if self.name == "max_cost" and self.prices == Prices():
            raise ConfigError("prices: must be given with max_cost, are not")


@dataclass(frozen=True)
class Chosen:
    """A threshold for a target.

    Attributes:
        tau: The threshold.
        observed: The target's figure on the calibration questions.
        bound: Its worst case on new questions, with the target's certainty; None without one.
        candidates: How many thresholds were tested; they share the allowed failure probability.
    """

    tau: float
    observed: float
    bound: float | None
    candidates: int


def choose(decisions: Decisions, target: Target) -> Chosen:
    """Return the best threshold of those that meet the target.

    For `max_risk` and `min_accuracy` that is the lowest tau, which asks the cloud least; for
    `max_cloud_share` and `max_cost` the highest, which makes the most of what is allowed.

    Raises:
        ConfigError: No threshold meets it, or the data cannot support it.
    """
    if target.name == "min_accuracy" and not decisions.knows_cloud:
        raise ConfigError(
            "min_accuracy: needs the cloud's answer to every question, some are missing"
        )
    if target.certainty is None:
        return _observed(decisions, target)
    return _guaranteed(decisions, target, target.certainty)


def _observed(decisions: Decisions, target: Target) -> Chosen:
    confidence = decisions.confidence(target.on)
    taus = np.unique(np.clip(confidence[np.isfinite(confidence)], 0, 1)).tolist() or [0.0]
    points = sweep(decisions, taus, target.on, target.prices)
    if target.name == "max_cloud_share" and 0 < target.limit < 1 / len(decisions):
        raise ConfigError(
            f"max_cloud_share: {target.limit:g} cannot be told from 0 by {len(decisions)} "
            f"questions; at least {math.ceil(1 / target.limit)} are needed"
        )
    fitting = [point for point in points if _meets(point, target)]
    if not fitting:
        values = [_figure(point, target) for point in points]
        best = max(values) if target.name == "min_accuracy" else min(values)
        raise ConfigError(
            f"{target.name}: {target.limit:g} is not reached at any tau; the best is {best:.4g}"
        )
    point = (min if target.name in _KEEPING else max)(fitting, key=lambda one: one.tau)
    return Chosen(point.tau, _figure(point, target), None, len(taus))


def _meets(point: Point, target: Target) -> bool:
    figure = _figure(point, target)
    return figure >= target.limit if target.name == "min_accuracy" else figure <= target.limit


def _figure(point: Point, target: Target) -> float:
    if target.name == "min_accuracy":
        return point.system_accuracy if point.system_accuracy is not None else 0.0
    return point.cost if target.name == "max_cost" else point.routed_share


def _guaranteed(decisions: Decisions, target: Target, certainty: float) -> Chosen:
    limit, scale = _limit(target)
    levels = decisions.header.levels if target.on == "verbalized" else None
    counts = [(tau, *_failures(decisions, target, tau)) for tau in grid(levels)]
    fitting = within(bounds(counts, certainty), limit, certainty)
    best = (min if target.name in _KEEPING else max)(fitting, key=lambda bound: bound.tau)
    share, bound = best.count / best.total * scale, best.bound * scale
    if target.name == "min_accuracy":
        share, bound = 1 - share, 1 - bound
    return Chosen(best.tau, share, bound, len(counts))


def _failures(decisions: Decisions, target: Target, tau: float) -> tuple[int, int]:
    """Return how many questions count at tau, and how many of them are failures."""
    goes = routed(decisions, tau, target.on)
    if target.name == "max_risk":
        return int((~goes).sum()), int((~goes & ~decisions.local_correct).sum())
    if target.name == "min_accuracy":
        right = np.where(goes, decisions.cloud_correct > 0, decisions.local_correct)
        return len(decisions), int((~right).sum())
    return len(decisions), int(goes.sum())


def _limit(target: Target) -> tuple[Limit, float]:
    """Return the target as a limit on a share, and the factor to report the share with."""
    said = f"{target.name}: {target.limit:g}"
    if target.name == "max_risk":
        return Limit(said, target.limit, "wrong", "kept answers"), 1.0
    if target.name == "min_accuracy":
        return Limit(said, 1 - target.limit, "wrong", "questions"), 1.0
    if target.name == "max_cloud_share":
        return Limit(said, target.limit, "routed", "questions"), 1.0
    prices = target.prices
    if prices.per_million_prompt or prices.per_million_completion:
        raise ConfigError(
            "max_cost: can be guaranteed only for prices per call, as tokens have no upper "
            "limit; leave out the confidence"
        )
    return Limit(said, target.limit / prices.per_call, "routed", "questions"), prices.per_call


def level_shares(decisions: Decisions) -> tuple[float, ...]:
    """Return the share of questions with each level; the rest up to 1 was malformed."""
    counts = Counter(decisions.verbalized.tolist())
    return tuple(counts[level] / len(decisions) for level in decisions.header.levels)
