"""The risk bound holds as often as it says, and no less often."""

from collections.abc import Sequence

import numpy as np
import pytest

from foggen_runtime import ConfigError
from foggen_runtime.statistics import guarantee
from foggen_runtime.statistics.arrays import Bool, Float64
from foggen_runtime.statistics.guarantee import Bound, Limit, bounds, within
from foggen_runtime.statistics.intervals import upper_bound

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
SIMULATIONS = 3000
MAX_RISK, CERTAINTY = 0.1, 0.9


def risk_bounds(
    confidence: Float64, correct: Bool, candidates: Sequence[float], certainty: float
) -> tuple[Bound, ...]:
    """Bound the share of wrong answers among those kept at each candidate."""
    kept = [confidence >= tau for tau in candidates]
    counts = [
        (tau, int(stays.sum()), int((stays & ~correct).sum()))
        for tau, stays in zip(candidates, kept, strict=True)
    ]
    return bounds(counts, certainty)


def violations(questions: int, true_risk: float) -> int:
    """Count the calibrations that accept a threshold although every one has too high a risk."""
    random = np.random.default_rng(7)
    accepted = 0
    for _ in range(SIMULATIONS):
        confidence = random.choice(LEVELS, questions)
        correct = random.random(questions) >= true_risk
        found = risk_bounds(confidence, correct, LEVELS, CERTAINTY)
        accepted += any(bound.bound <= MAX_RISK for bound in found)
    return accepted


def test_bounds_are_clopper_and_pearsons_at_a_share_of_the_failure_probability() -> None:
    stats = pytest.importorskip("scipy.stats")
    confidence, correct = np.repeat(LEVELS, 40), np.tile([True] * 9 + [False], 20)
    for bound in risk_bounds(confidence, correct, LEVELS, 0.95):
        assert bound.bound == pytest.approx(
            stats.beta.ppf(1 - 0.05 / 5, bound.count + 1, bound.total - bound.count)
        )


@pytest.mark.slow
def test_the_risk_is_exceeded_no_more_often_than_allowed() -> None:
    """Every threshold's true risk is just above the limit: accepting any is a violation."""
    allowed = (1 - CERTAINTY) * SIMULATIONS
    deviation = (CERTAINTY * allowed) ** 0.5
    found = violations(questions=60, true_risk=MAX_RISK + 1e-9)
    assert found <= allowed + 3 * deviation


def test_an_off_by_one_in_the_tail_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = upper_bound

    def one_too_few(count: int, total: int, confidence: float) -> float:
        return exact(max(count - 1, 0), total, confidence) if count else 0.0

    monkeypatch.setattr(guarantee, "upper_bound", one_too_few)
    allowed = (1 - CERTAINTY) * SIMULATIONS
    deviation = (CERTAINTY * allowed) ** 0.5
    assert violations(questions=60, true_risk=MAX_RISK + 1e-9) > allowed + 3 * deviation


def risk(limit: float) -> Limit:
    return Limit(f"max_risk: {limit}", limit, "wrong", "kept answers")


def test_thresholds_within_the_limit_are_returned() -> None:
    found = [
        Bound(0.5, 200, 2, 0.05),
        Bound(0.25, 300, 9, 0.08),
        Bound(0, 400, 90, 0.3),
    ]
    assert [bound.tau for bound in within(found, risk(0.1), 0.95)] == [0.5, 0.25]


def test_what_the_data_cannot_support_is_refused_with_what_would_do() -> None:
    confidence, correct = np.ones(20), np.array([True] * 19 + [False])
    found = risk_bounds(confidence, correct, [1.0], 0.95)
    with pytest.raises(
        ConfigError, match=r"max_risk: 0.1 .* 1 wrong of 20 kept answers; about \d+ kept"
    ):
        within(found, risk(0.1), 0.95)
    with pytest.raises(ConfigError, match="no amount of such data would be enough"):
        within(found, risk(0.04), 0.95)


def test_a_threshold_that_keeps_nothing_bounds_nothing() -> None:
    (bound,) = risk_bounds(np.zeros(5), np.ones(5, np.bool_), [1.0], 0.95)
    assert bound == Bound(1.0, 0, 0, 1.0)


@pytest.mark.parametrize("certainty", [0, 1, -0.5, 1.5])
def test_certainty_lies_between_0_and_1(certainty: float) -> None:
    with pytest.raises(ConfigError, match="confidence: must be above 0 and below 1"):
        risk_bounds(np.zeros(5), np.ones(5, np.bool_), [1.0], certainty)
