"""Student's quantiles against scipy's; the interval is tested where profiles are compared."""

import pytest

from foggen_runtime.statistics.welch import t_quantile


@pytest.mark.parametrize("degrees", [1, 1.7, 2, 4.3, 10, 100, 5000])
@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.995])
def test_students_t_is_scipys(probability: float, degrees: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.t.ppf(probability, degrees)
    assert t_quantile(probability, degrees) == pytest.approx(expected, rel=2e-3)
    if degrees < 1000:
        assert t_quantile(probability, degrees) == pytest.approx(expected, rel=1e-5)
