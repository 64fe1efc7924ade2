"""The drift test against scipy, and how often it raises a false alarm."""

import numpy as np
import pytest

from foggen_runtime.statistics.drift import chi_square_tail, level_drift

SHARES = (0.02, 0.1, 0.3, 0.08, 0.1, 0.4)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("statistic", [0.0, 0.5, 3.84, 15.0, 200.0])
def test_the_tail_is_scipys(statistic: float, degrees: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.chi2.sf(statistic, degrees)
    assert chi_square_tail(statistic, degrees) == pytest.approx(expected, rel=1e-10)


def test_the_statistic_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    table = [[20, 100, 300, 80], [31, 70, 320, 60]]
    drift = level_drift(*table)
    expected = stats.chi2_contingency(table, correction=False)
    assert drift
    assert drift.statistic == pytest.approx(expected.statistic)
    assert drift.p_value == pytest.approx(expected.pvalue)
    assert drift.degrees_of_freedom == expected.dof


def test_small_categories_are_pooled_with_their_neighbours() -> None:
    stats = pytest.importorskip("scipy.stats")
    drift = level_drift([0, 1, 300, 80, 2], [1, 0, 320, 60, 0])
    expected = stats.chi2_contingency([[301, 82], [321, 60]], correction=False)
    assert drift
    assert drift.p_value == pytest.approx(expected.pvalue)


def test_without_enough_there_is_no_test() -> None:
    assert level_drift([10, 10], [0, 0]) is None
    assert level_drift([100, 100], [1, 1]) is None


@pytest.mark.parametrize("seen", [50, 1000])
def test_false_alarms_are_as_rare_as_stated(seen: int) -> None:
    """2,000 times no drift at all; three standard deviations of the count are allowed."""
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(2000):
        drift = level_drift(
            random.multinomial(500, SHARES).tolist(), random.multinomial(seen, SHARES).tolist()
        )
        alarms += drift is not None and drift.p_value < 0.05
    assert alarms <= 100 + 3 * (2000 * 0.05 * 0.95) ** 0.5


def test_drift_is_found() -> None:
    random = np.random.default_rng(2)
    shifted = (0.05, 0.2, 0.3, 0.1, 0.1, 0.25)
    drift = level_drift(
        random.multinomial(500, SHARES).tolist(), random.multinomial(500, shifted).tolist()
    )
    assert drift
    assert drift.p_value < 1e-4
