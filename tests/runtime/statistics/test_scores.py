"""AUROC and calibration error, against scikit-learn and by hand."""

import random

import numpy as np
import pytest

from foggen_runtime.statistics.scores import auroc, brier, calibration_error
from tests.support.recorded import random_decisions

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_auroc_is_that_of_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = random.Random(seed)
    levels = generator.sample(LEVELS, k=generator.randint(2, 5))
    confidences = generator.choices(levels, k=generator.randint(5, 400))
    correct = [True, False, *(generator.random() < c for c in confidences[2:])]
    assert auroc(confidences, correct) == pytest.approx(metrics.roc_auc_score(correct, confidences))


def test_auroc_counts_ties_half() -> None:
    assert auroc([0.5, 0.5], [True, False]) == 0.5
    assert auroc([1.0, 0.5, 0.5], [True, True, False]) == 0.75
    assert auroc([0.0, 1.0], [True, False]) == 0.0


@pytest.mark.parametrize("correct", [(), (True, True), (False,)])
def test_auroc_needs_right_and_wrong_answers(correct: tuple[bool, ...]) -> None:
    assert auroc([0.5] * len(correct), correct) is None


def test_calibration_error_weighs_each_levels_gap_by_its_size() -> None:
    confidences = [1.0, 1.0, 1.0, 1.0, 0.25]
    correct = [True, True, True, False, True]
    assert calibration_error(confidences, correct) == pytest.approx(0.8 * 0.25 + 0.2 * 0.75)


def test_gaps_of_different_levels_do_not_cancel() -> None:
    assert calibration_error([1.0, 0.0], [False, True]) == 1.0
    assert calibration_error([0.5, 0.5], [False, True]) == 0.0


def test_calibration_error_needs_answers() -> None:
    assert calibration_error([], []) is None


def test_brier_is_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    decisions = random_decisions(500, seed=1)
    correct = decisions.local_correct.astype(np.float64)
    expected = metrics.brier_score_loss(decisions.local_correct, decisions.verbalized)
    assert brier(decisions.verbalized, correct) == pytest.approx(expected)
