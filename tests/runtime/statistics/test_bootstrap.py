"""Bootstrap intervals against scipy's; how often they cover the truth is tested in test_summary."""

import numpy as np
import pytest

from foggen_runtime.statistics.bootstrap import paired_interval
from tests.support.recorded import random_decisions


def test_the_paired_interval_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = random_decisions(600, 1), random_decisions(600, 2)
    differences = second.local_correct.astype(np.float64) - first.local_correct
    expected = stats.bootstrap(
        (differences,), np.mean, n_resamples=2000, method="percentile", rng=1
    ).confidence_interval
    found = paired_interval(differences)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.006)
