"""A summary's figures against scikit-learn and plain counting."""

import dataclasses

import numpy as np
import pytest

from foggen_runtime.evaluation.summary import Threshold, intervals, summarize
from foggen_runtime.statistics.scores import binned_calibration_error
from tests.support.recorded import random_decisions, recorded

DATA = random_decisions(800, seed=9)


def test_figures_are_those_of_the_recorded_decisions() -> None:
    summary = summarize(DATA, Threshold(0.5))
    goes = DATA.verbalized < 0.5
    assert summary.routed_share == goes.mean()
    right = np.where(goes, DATA.cloud_correct, DATA.local_correct)
    assert summary.system_accuracy == pytest.approx(right.mean())
    assert summary.local_accuracy == DATA.local_correct.mean()
    for name in ("system_accuracy", "routed_share", "local_accuracy", "cloud_accuracy", "lift"):
        assert summary.intervals[name].low <= getattr(summary, name) <= summary.intervals[name].high


def test_auroc_and_brier_are_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    summary = summarize(DATA, Threshold(0.5))
    auroc = metrics.roc_auc_score(DATA.local_correct, DATA.verbalized)
    assert summary.auroc == pytest.approx(auroc)
    expected = metrics.brier_score_loss(DATA.local_correct, DATA.verbalized)
    assert summary.brier == pytest.approx(expected)


def test_the_mean_over_domains_counts_each_domain_alike() -> None:
    decisions = recorded(
        [0.0, 1.0, 1.0, 1.0],
        [False, True, True, False],
        [True, True, False, True],
        ["law", "math", "math", "math"],
    )
    summary = summarize(decisions, Threshold(0.5))
    assert summary.domain_mean
    assert summary.domain_mean.routed_share == pytest.approx((1 + 0) / 2)
    assert summary.domain_mean.local_accuracy == pytest.approx((0 + 2 / 3) / 2)
    assert summary.domain_mean.system_accuracy == pytest.approx((1 + 2 / 3) / 2)
    assert summary.by_domain["math"].questions == 3


def test_what_needs_the_cloud_is_none_without_it() -> None:
    summary = summarize(recorded([0.0, 1.0], [False, True], [None, None]), Threshold(0.5))
    assert summary.system_accuracy is summary.lift is summary.average_recovered is None
    assert summary.local_accuracy == 0.5


def test_continuous_confidence_is_binned_by_hand() -> None:
    """Bins [.1, .2) and [.9, 1]: |0 + 1 - .11 - .19| / 4 and |1 + 1 - .95 - 1| / 4."""
    confidence = np.array([0.11, 0.19, 0.95, 1.0])
    correct = np.array([0.0, 1.0, 1.0, 1.0])
    error = binned_calibration_error(confidence, correct)
    assert error == pytest.approx(0.7 / 4 + 0.05 / 4)
    data = dataclasses.replace(
        recorded([0.0] * 4, [False, True, True, True], [None] * 4), expected=confidence
    )
    assert summarize(data, Threshold(0.5, "expected")).expected_calibration_error == error


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Of 300 samples, the true system accuracy lies in 95 % of intervals, give or take."""
    population = random_decisions(20_000, seed=3)
    truth = summarize(population, Threshold(0.5)).system_accuracy or 0
    random = np.random.default_rng(6)
    covered = 0
    for _ in range(300):
        sample = population.only(random.integers(0, len(population), 200))
        interval = intervals(sample, 0.5)["system_accuracy"]
        covered += interval.low <= truth <= interval.high
    assert 0.95 * 300 - 4 * 3.8 <= covered <= 298
