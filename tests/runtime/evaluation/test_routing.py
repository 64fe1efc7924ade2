import numpy as np
import pytest

from foggen_runtime import ConfigError
from foggen_runtime.evaluation.routing import Prices, routed, sweep
from tests.support.recorded import random_decisions, recorded


def test_a_sweep_is_what_routing_question_by_question_gives() -> None:
    decisions = random_decisions(300, seed=5)
    for point in sweep(decisions, [0.0, 0.25, 0.3, 0.5, 1.0, 1.1]):
        goes = routed(decisions, point.tau)
        right = np.where(goes, decisions.cloud_correct, decisions.local_correct)
        share = goes.mean()
        random = (1 - share) * decisions.local_correct.mean()
        random += share * decisions.cloud_correct.mean()
        assert point.routed_share == pytest.approx(share)
        assert point.system_accuracy == pytest.approx(right.mean())
        assert point.random_accuracy == pytest.approx(random)
        assert point.lift == pytest.approx(right.mean() - random)
        if not goes.all():
            assert point.kept_accuracy == pytest.approx(decisions.local_correct[~goes].mean())


def test_a_confidence_of_exactly_tau_stays() -> None:
    decisions = recorded([0.25, 0.5], [True, True], [True, True])
    (point,) = sweep(decisions, [0.5])
    assert point.routed_share == 0.5


def test_malformed_output_is_routed_at_any_threshold() -> None:
    decisions = recorded([-np.inf, 0.0], [False, True], [True, True])
    (point,) = sweep(decisions, [0.0])
    assert point.routed_share == 0.5
    assert point.system_accuracy == 1.0


def test_without_the_clouds_answers_there_is_no_system_accuracy() -> None:
    decisions = recorded([0.0, 1.0], [False, True], [True, None])
    (point,) = sweep(decisions, [0.5])
    assert point.system_accuracy is None
    assert point.lift is None
    assert point.kept_accuracy == 1.0


def test_cost_counts_the_routed_questions_only() -> None:
    """By hand: one of two questions costs .01 + (100 * 2 + 10 * 8) / 1e6."""
    decisions = recorded([0.0, 1.0], [False, True], [True, True])
    (point,) = sweep(decisions, [0.5], prices=Prices(0.01, 2, 8))
    assert point.cost == pytest.approx((0.01 + 0.00028) / 2)


def test_the_published_figures_fix_what_random_routing_gives() -> None:
    """The model card: 67.8 % at 21.9 % routed, 4.6 points over random routing, so 63.2 % at random.

    Any local and cloud accuracy with .781 local + .219 cloud = .632 will do; with a cloud at 85 %
    the local model must have 57.1 %.
    """
    total, kept = 100_000, 78_100
    local_right, system_right, cloud_right = 57_087, 67_800, 85_000
    kept_right = 50_000
    routed_right = system_right - kept_right
    confidence = [1.0] * kept + [0.0] * (total - kept)
    local = [True] * kept_right + [False] * (kept - kept_right)
    local += [True] * (local_right - kept_right) + [False] * (
        total - kept - local_right + kept_right
    )
    cloud = [True] * (cloud_right - routed_right)
    cloud += [False] * (kept - len(cloud))
    cloud += [True] * routed_right + [False] * (total - kept - routed_right)
    (point,) = sweep(recorded(confidence, local, cloud), [0.5])
    assert point.routed_share == pytest.approx(0.219)
    assert point.system_accuracy == pytest.approx(0.678)
    assert point.lift == pytest.approx(0.046, abs=5e-4)


def test_prices_below_zero_are_refused() -> None:
    with pytest.raises(ConfigError, match="per_call must be at least 0, is -1"):
        Prices(per_call=-1)
