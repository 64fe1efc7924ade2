"""Targets are met: on the data, and with a confidence on new data."""

import dataclasses

import numpy as np
import pytest

from foggen_runtime import ConfigError
from foggen_runtime.evaluation.calibrating import Target, TargetName, choose, level_shares
from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.evaluation.routing import Prices, sweep
from tests.support.recorded import LEVELS, random_decisions, recorded

DATA = random_decisions(400, seed=11)


def share(decisions: Decisions, tau: float) -> float:
    (point,) = sweep(decisions, [tau])
    return point.routed_share


def test_the_highest_tau_within_the_cloud_share_is_chosen() -> None:
    chosen = choose(DATA, Target("max_cloud_share", 0.45))
    assert chosen.observed == share(DATA, chosen.tau) <= 0.45
    higher = min(level for level in LEVELS if level > chosen.tau)
    assert share(DATA, higher) > 0.45
    assert chosen.bound is None


def test_a_continuous_confidence_meets_a_share_exactly() -> None:
    random = np.random.default_rng(4)
    expected = dataclasses.replace(DATA, expected=random.random(400))
    chosen = choose(expected, Target("max_cloud_share", 0.3, on="expected"))
    assert chosen.observed == pytest.approx(0.3)
    assert np.mean(expected.expected < chosen.tau) == pytest.approx(0.3)


def test_the_lowest_tau_that_is_accurate_enough_is_chosen() -> None:
    points = sweep(DATA, LEVELS)
    wanted = points[2].system_accuracy or 0
    chosen = choose(DATA, Target("min_accuracy", wanted))
    assert chosen.tau == min(p.tau for p in points if (p.system_accuracy or 0) >= wanted)


def test_the_cost_stays_below_its_limit() -> None:
    prices = Prices(0.01, 2, 8)
    chosen = choose(DATA, Target("max_cost", 0.005, prices=prices))
    (point,) = sweep(DATA, [chosen.tau], prices=prices)
    assert chosen.observed == pytest.approx(point.cost)
    assert point.cost <= 0.005


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target("min_accuracy", 0.999), "is not reached at any tau; the best is"),
        (Target("max_cloud_share", 0.001), "at least 1000 are needed"),
        (Target("max_risk", 0.001, 0.95), "max_risk: 0.001 .* is not supported by the data"),
        (Target("min_accuracy", 0.9, 0.99), "min_accuracy: 0.9 .* questions at tau"),
        (Target("max_cloud_share", 0.0, 0.95), "no amount of such data would be enough"),
    ],
)
def test_what_the_data_cannot_support_is_refused(target: Target, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(DATA, target)


def test_malformed_output_cannot_be_kept_from_the_cloud() -> None:
    malformed = recorded([-np.inf, 1.0] * 9, [False, True] * 9, [True, True] * 9)
    with pytest.raises(ConfigError, match=r"the best is 0\.5"):
        choose(malformed, Target("max_cloud_share", 0.49))


def test_accuracy_needs_the_cloud() -> None:
    unknown = recorded([0.0, 1.0], [True, True], [None, True])
    with pytest.raises(ConfigError, match="needs the cloud's answer to every question"):
        choose(unknown, Target("min_accuracy", 0.5))


@pytest.mark.parametrize(
    ("name", "limit", "certainty", "message"),
    [
        ("max_risk", 1.5, 0.9, r"max_risk: must be within \[0, 1\], is 1.5"),
        ("max_risk", 0.1, None, "confidence: must be given with max_risk"),
        ("max_cost", 0.1, None, "prices: must be given"),
        ("max_cost", -1.0, None, "max_cost: must be at least 0"),
    ],
)
def test_impossible_targets_are_refused(
    name: TargetName, limit: float, certainty: float | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Target(name, limit, certainty)


def test_a_guaranteed_cost_is_the_clopper_pearson_bound_of_its_share() -> None:
    stats = pytest.importorskip("scipy.stats")
    chosen = choose(DATA, Target("max_cost", 0.006, 0.95, prices=Prices(per_call=0.01)))
    count = round(share(DATA, chosen.tau) * 400)
    bound = stats.beta.ppf(1 - 0.05 / 5, count + 1, 400 - count)
    assert chosen.bound == pytest.approx(0.01 * bound)
    with pytest.raises(ConfigError, match="can be guaranteed only for prices per call"):
        choose(DATA, Target("max_cost", 0.006, 0.95, prices=Prices(0.01, 2, 0)))


def test_of_the_guaranteed_thresholds_the_most_useful_is_chosen() -> None:
    """The next one in the useful direction has a bound beyond the limit."""
    beta = pytest.importorskip("scipy.stats").beta
    each = 1 - 0.05 / 5

    chosen = choose(DATA, Target("max_cloud_share", 0.7, 0.95))
    higher = min(level for level in LEVELS if level > chosen.tau)
    count = int((DATA.verbalized < higher).sum())
    assert beta.ppf(each, count + 1, 400 - count) > 0.7

    chosen = choose(DATA, Target("max_risk", 0.5, 0.95))
    lower = max(level for level in LEVELS if level < chosen.tau)
    kept = DATA.verbalized >= lower
    wrong = int((kept & ~DATA.local_correct).sum())
    assert beta.ppf(each, wrong + 1, kept.sum() - wrong) > 0.5

    chosen = choose(DATA, Target("min_accuracy", 0.6, 0.95))
    assert chosen.bound is not None
    assert 0.6 <= chosen.bound < chosen.observed
    lower = max(level for level in LEVELS if level < chosen.tau)
    right = np.where(DATA.verbalized < lower, DATA.cloud_correct, DATA.local_correct)
    wrong = int((right == 0).sum())
    assert 1 - beta.ppf(each, wrong + 1, 400 - wrong) < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["max_cloud_share", "min_accuracy", "max_risk"])
def test_chosen_thresholds_keep_their_promise_on_new_questions(name: TargetName) -> None:
    """2,000 calibrations on samples of a known population: no more than 10 % break the promise."""
    limits = {"max_cloud_share": 0.42, "min_accuracy": 0.845, "max_risk": 0.2}
    population = random_decisions(20_000, seed=21)
    target = Target(name, limits[name], 0.9)
    truth = {point.tau: point for point in sweep(population, LEVELS)}
    random = np.random.default_rng(5)
    broken = accepted = 0
    for _ in range(2000):
        sample = population.only(random.integers(0, len(population), 150))
        try:
            point = truth[choose(sample, target).tau]
        except ConfigError:
            continue
        accepted += 1
        kept_wrong = 1 - (point.kept_accuracy or 0)
        broken += {
            "max_cloud_share": point.routed_share > target.limit,
            "min_accuracy": (point.system_accuracy or 0) < target.limit,
            "max_risk": kept_wrong > target.limit,
        }[name]
    assert accepted > 200
    assert broken <= 200 + 3 * (2000 * 0.1 * 0.9) ** 0.5


def test_level_shares_leave_out_the_malformed() -> None:
    decisions = recorded([-np.inf, 0.25, 1.0, 1.0], [True] * 4, [True] * 4)
    assert level_shares(decisions) == (0, 0.25, 0, 0, 0.5)
