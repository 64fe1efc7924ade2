"""Every figure against a definition worked out by hand, or another library."""

import numpy as np
import pytest

from foggen_runtime.evaluation.routing import curve
from foggen_runtime.statistics.curve import (
    Costs,
    average_recovered,
    call_share_for,
    incremental_benefit_lift,
    recovered,
    risk_coverage_area,
)
from tests.support.recorded import random_decisions, recorded

# Four questions: the two least sure are wrong here; the cloud knows all but the surest.
FOUR = recorded([0.0, 0.25, 0.75, 1.0], [False, False, True, True], [True, True, True, False], None)


def test_accuracy_follows_what_is_routed() -> None:
    traced = curve(FOUR)
    assert traced.routed.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert traced.accuracy.tolist() == [0.5, 0.75, 1.0, 1.0, 0.75]


def test_between_levels_ties_are_routed_at_random() -> None:
    tied = recorded([0.5, 0.5], [False, True], [True, True])
    assert curve(tied).accuracy_at(0.5) == pytest.approx(0.75)


def test_recovered_gap_is_routellms() -> None:
    """PGR by hand: weak .5, strong .75; at shares .1 to 1 the accuracy is piecewise linear."""
    traced = curve(FOUR)
    accuracies = [0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0, 0.95, 0.85, 0.75]
    by_hand = [(accuracy - 0.5) / 0.25 for accuracy in accuracies]
    assert [recovered(traced, i / 10) for i in range(1, 11)] == pytest.approx(by_hand)
    assert average_recovered(traced) == pytest.approx(sum(by_hand) / 10)


def test_call_share_is_the_least_that_recovers_enough() -> None:
    traced = curve(FOUR)
    assert call_share_for(traced, 0.5) == pytest.approx(0.125)
    assert call_share_for(traced, 1.0) == pytest.approx(0.25)
    assert call_share_for(traced, 2.0) == pytest.approx(0.5)
    assert call_share_for(traced, 2.5) is None


def test_a_cloud_that_is_no_better_recovers_nothing() -> None:
    traced = curve(recorded([0.0, 1.0], [True, True], [True, True]))
    assert recovered(traced, 0.5) is None
    assert average_recovered(traced) is None
    assert call_share_for(traced, 0.5) is None
    assert incremental_benefit_lift(traced, 0.5, Costs(1, 50)) is None


def test_incremental_benefit_is_automix() -> None:
    """By hand: C_SLM 1, C_LLM 50; half routed costs 1 + 25 and gains .5; always asking gains .25.

    AutoMix's system pays the local model for every question, and so does always asking after it:
    IBC = .5 / 25 against .25 / 49.
    """
    traced = curve(FOUR)
    lift = incremental_benefit_lift(traced, 0.5, Costs(local=1, cloud=50))
    assert lift == pytest.approx((0.5 / 25) / (0.25 / 49) - 1)


def test_risk_coverage_area_is_the_mean_risk_over_coverage() -> None:
    """A sum over many fine steps of coverage, with ties shuffled, gives the same area."""
    decisions = random_decisions(4000, seed=3)
    random = np.random.default_rng(0)
    areas = []
    for _ in range(20):
        order = np.lexsort((random.random(len(decisions)), -decisions.verbalized))
        wrong = np.cumsum(~decisions.local_correct[order])
        areas.append(np.mean(wrong / np.arange(1, len(decisions) + 1)))
    assert risk_coverage_area(curve(decisions)) == pytest.approx(np.mean(areas), abs=1e-3)


def test_a_perfect_order_has_the_least_risk_coverage_area() -> None:
    """Errors come only in the last half: the integral of (c - 1/2) / c from 1/2 to 1."""
    perfect = recorded([0.0, 1.0], [False, True], [True, True])
    assert risk_coverage_area(curve(perfect)) == pytest.approx(0.5 - 0.5 * np.log(2))
