"""All figures of an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean

import numpy as np

from foggen_runtime.bundle.manifest import ConfidenceKind
from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.evaluation.routing import Prices, curve, routed, sweep
from foggen_runtime.statistics.arrays import Bool, Float64
from foggen_runtime.statistics.bootstrap import Interval, middle, resampled
from foggen_runtime.statistics.curve import (
    Costs,
    average_recovered,
    call_share_for,
    incremental_benefit_lift,
    risk_coverage_area,
)
from foggen_runtime.statistics.scores import (
    auroc,
    binned_calibration_error,
    brier,
    calibration_error,
)

SCHEMA_VERSION = 1

# AutoMix's prices of a small and a large model (arXiv 2310.12963, section 4.1).
AUTOMIX_COSTS = Costs(local=1.0, cloud=50.0)


@dataclass(frozen=True)
class Figures:
    """Figures of some questions at one threshold; None where undefined or unknown.

    Attributes:
        questions: How many.
        malformed: How many had no readable confidence.
        local_accuracy: Share of right answers if all are answered locally.
        cloud_accuracy: Share of right answers if the cloud answers all.
        system_accuracy: Share of right answers with routing.
        routed_share: Share that goes to the cloud.
        lift: System accuracy less that of routing as many at random.
        kept_accuracy: Share of right answers among those kept.
        cost: The cloud's price for each question.
        auroc: How often a right answer has a higher confidence than a wrong one.
        expected_calibration_error: By level; of the expected confidence, in ten bins.
        brier: Mean squared error of the confidence.
        risk_coverage_area: Mean share of errors among the kept, over all shares kept.
        average_recovered: RouteLLM's APGR.
        call_share_50: RouteLLM's CPT(50 %).
        call_share_80: RouteLLM's CPT(80 %).
        incremental_benefit_lift: AutoMix's, at its prices of 1 and 50.
    """

    questions: int
    malformed: int
    local_accuracy: float
    cloud_accuracy: float | None
    system_accuracy: float | None
    routed_share: float
    lift: float | None
    kept_accuracy: float | None
    cost: float
    auroc: float | None
    expected_calibration_error: float | None
    brier: float | None
    risk_coverage_area: float
    average_recovered: float | None
    call_share_50: float | None
    call_share_80: float | None
    incremental_benefit_lift: float | None


@dataclass(frozen=True)
class DomainMean:
    """Means over domains, each counting the same, as the model card reports."""

    local_accuracy: float
    routed_share: float
    system_accuracy: float | None
    lift: float | None


@dataclass(frozen=True)
class Threshold:
    """What the confidence is compared with, and the cloud's prices.

    Attributes:
        tau: Questions of a lower confidence go to the cloud.
        kind: Which confidence.
        prices: What the cloud costs.
    """

    tau: float
    kind: ConfidenceKind = "verbalized"
    prices: Prices = field(default_factory=Prices)


@dataclass(frozen=True, kw_only=True)
class Summary(Figures):
    """The figures of all questions at one threshold, and what goes with them.

    Attributes:
        tau: The threshold.
        confidence: Which confidence it is compared with.
        intervals: 95 % bootstrap intervals of some of the figures.
        by_domain: Each domain's figures.
        domain_mean: Means over the domains; None without domains.
    """

    tau: float
    confidence: ConfidenceKind
    intervals: Mapping[str, Interval]
    by_domain: Mapping[str, Figures]
    domain_mean: DomainMean | None
    schema_version: int = SCHEMA_VERSION


def summarize(decisions: Decisions, threshold: Threshold) -> Summary:
    """Compute every figure."""
    names = sorted({domain for domain in decisions.domains if domain is not None})
    domains = np.array([domain or "" for domain in decisions.domains])
    by_domain = {name: figures(decisions.only(domains == name), threshold) for name in names}
    return Summary(
        **asdict(figures(decisions, threshold)),
        tau=threshold.tau,
        confidence=threshold.kind,
        intervals=intervals(decisions, threshold.tau, threshold.kind),
        by_domain=by_domain,
        domain_mean=_mean(list(by_domain.values())) if names else None,
    )


def figures(decisions: Decisions, threshold: Threshold) -> Figures:
    """Compute the figures of some questions."""
    (point,) = sweep(decisions, [threshold.tau], threshold.kind, threshold.prices)
    confidence = decisions.confidence(threshold.kind)
    formed = np.isfinite(confidence)
    stated, right = confidence[formed], decisions.local_correct[formed]
    traced = curve(decisions, threshold.kind)
    knows = decisions.knows_cloud
    return Figures(
        questions=len(decisions),
        malformed=int((~formed).sum()),
        local_accuracy=float(decisions.local_correct.mean()),
        cloud_accuracy=float(decisions.cloud_correct.mean()) if knows else None,
        system_accuracy=point.system_accuracy,
        routed_share=point.routed_share,
        lift=point.lift,
        kept_accuracy=point.kept_accuracy,
        cost=point.cost,
        auroc=auroc(confidence.tolist(), decisions.local_correct.tolist()),
        expected_calibration_error=_calibration_error(stated, right, threshold.kind),
        brier=brier(stated, right.astype(np.float64)),
        risk_coverage_area=risk_coverage_area(traced),
        average_recovered=average_recovered(traced) if knows else None,
        call_share_50=call_share_for(traced, 0.5) if knows else None,
        call_share_80=call_share_for(traced, 0.8) if knows else None,
        incremental_benefit_lift=(
            incremental_benefit_lift(traced, point.routed_share, AUTOMIX_COSTS) if knows else None
        ),
    )


def intervals(
    decisions: Decisions, tau: float, kind: ConfidenceKind = "verbalized"
) -> Mapping[str, Interval]:
    """Return intervals of the figures that are means over questions, by name.

    They depend only on three yes-or-no facts about each question, so the combinations of these are
    the cells of the bootstrap.
    """
    goes = routed(decisions, tau, kind)
    local, cloud = decisions.local_correct, decisions.cloud_correct
    known = decisions.knows_cloud
    facts = np.stack([goes, local, np.nan_to_num(cloud) > 0], axis=1)
    cells, cell_of = np.unique(facts, axis=0, return_inverse=True)
    draws = resampled(cell_of.reshape(-1), len(cells))
    goes_cell, local_cell, cloud_cell = (cells[:, i].astype(np.float64) for i in range(3))
    share, weak, strong = draws @ goes_cell, draws @ local_cell, draws @ cloud_cell
    drawn: dict[str, Float64] = {"routed_share": share, "local_accuracy": weak}
    if known:
        system = draws @ np.where(goes_cell > 0, cloud_cell, local_cell)
        drawn["cloud_accuracy"] = strong
        drawn["system_accuracy"] = system
        drawn["lift"] = system - ((1 - share) * weak + share * strong)
    return {name: middle(values) for name, values in drawn.items()}


def _calibration_error(stated: Float64, right: Bool, kind: ConfidenceKind) -> float | None:
    if kind == "verbalized":
        return calibration_error(stated.tolist(), right.tolist())
    return binned_calibration_error(stated, right.astype(np.float64))


def _mean(rows: Sequence[Figures]) -> DomainMean:
    systems = [row.system_accuracy for row in rows if row.system_accuracy is not None]
    lifts = [row.lift for row in rows if row.lift is not None]
    return DomainMean(
        fmean(row.local_accuracy for row in rows),
        fmean(row.routed_share for row in rows),
        fmean(systems) if len(systems) == len(rows) else None,
        fmean(lifts) if len(lifts) == len(rows) else None,
    )
