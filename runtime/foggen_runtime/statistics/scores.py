"""How well a confidence tells right answers from wrong ones, and how far it can be trusted."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from foggen_runtime.statistics.arrays import Float64


def auroc(confidences: Sequence[float], correct: Sequence[bool]) -> float | None:
    """Return how often a right answer has a higher confidence than a wrong one; ties count half.

    That is the Mann-Whitney U of the right answers over the number of pairs, which equals the area
    under the ROC curve (Hanley and McNeil, Radiology 143, 1982). None without both kinds.
    """
    pairs = list(zip(confidences, correct, strict=True))
    right = [confidence for confidence, is_right in pairs if is_right]
    wrong = sorted(confidence for confidence, is_right in pairs if not is_right)
    if not right or not wrong:
        return None
    doubled = sum(bisect_left(wrong, score) + bisect_right(wrong, score) for score in right)
    return doubled / (2 * len(right) * len(wrong))


def calibration_error(confidences: Sequence[float], correct: Sequence[bool]) -> float | None:
    """Return the expected calibration error with one bin per distinct confidence.

    ECE = sum over bins of (bin's size / all) * |bin's accuracy - bin's confidence|, after Naeini,
    Cooper and Hauskrecht, AAAI 2015. None without answers.
    """
    if not confidences:
        return None
    gaps: dict[float, float] = {}
    for confidence, is_right in zip(confidences, correct, strict=True):
        gaps[confidence] = gaps.get(confidence, 0.0) + is_right - confidence
    return math.fsum(abs(gap) for gap in gaps.values()) / len(confidences)


def binned_calibration_error(confidence: Float64, correct: Float64, bins: int = 10) -> float | None:
    """Return the expected calibration error of a continuous confidence, in bins of equal width.

    ECE = sum over bins of (bin's size / all) * |bin's accuracy - bin's mean confidence|, after
    Guo et al., arXiv 1706.04599. None without answers.
    """
    if not len(confidence):
        return None
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def brier(confidence: Float64, correct: Float64) -> float | None:
    """Return the mean squared difference of confidence and correctness (Brier, 1950)."""
    return float(np.mean((confidence - correct) ** 2)) if len(confidence) else None
