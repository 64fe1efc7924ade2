"""Whether real use still looks like the calibration questions: a test of the level distribution."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Cochran's rule for the chi-square approximation (Biometrics 10, 1954).
LEAST_EXPECTED = 5.0


@dataclass(frozen=True)
class Drift:
    """Pearson's chi-square test that two samples have one distribution of levels.

    Attributes:
        statistic: Chi square.
        degrees_of_freedom: Categories less one, after small ones were pooled.
        p_value: How likely so large a statistic is without drift.
    """

    statistic: float
    degrees_of_freedom: int
    p_value: float


def level_drift(reference: Sequence[int], seen: Sequence[int]) -> Drift | None:
    """Compare two samples' counts of levels.

    As the reference is also a sample, this is the test of homogeneity, not of fit. Neighbours are
    pooled until every expected count is at least 5. None if that leaves fewer than two categories.

    Args:
        reference: Calibration questions of each category, malformed ones first, then by level.
        seen: Decisions of real use, likewise.
    """
    first, second = sum(reference), sum(seen)
    if not first or not second:
        return None
    smaller = min(first, second) / (first + second)
    pairs = _pooled(list(zip(reference, seen, strict=True)), LEAST_EXPECTED / smaller)
    if len(pairs) < 2:
        return None
    statistic = 0.0
    for pair in pairs:
        for count, total in zip(pair, (first, second), strict=True):
            expected = sum(pair) * total / (first + second)
            statistic += (count - expected) ** 2 / expected
    degrees = len(pairs) - 1
    return Drift(statistic, degrees, chi_square_tail(statistic, degrees))


def _pooled(pairs: list[tuple[int, int]], least: float) -> list[tuple[int, int]]:
    """Add neighbours together until every pair's sum is at least `least`."""
    pooled: list[tuple[int, int]] = []
    first, second = 0, 0
    for one, other in pairs:
        first, second = first + one, second + other
        if first + second >= least:
            pooled.append((first, second))
            first, second = 0, 0
    if first + second and pooled:
        last = pooled.pop()
        pooled.append((last[0] + first, last[1] + second))
    return pooled


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return the probability of a chi-square variable above `statistic`.

    By the recurrence Q(a + 1, x) = Q(a, x) + x^a e^-x / Gamma(a + 1) of the regularized incomplete
    gamma function (DLMF 8.8.6), from Q(1, x) = e^-x or Q(1/2, x) = erfc(sqrt x).
    """
    x = statistic / 2
    if x <= 0:
        return 1.0
    order = 1.0 if degrees % 2 == 0 else 0.5
    tail = math.exp(-x) if order == 1 else math.erfc(math.sqrt(x))
    while order < degrees / 2:
        tail += math.exp(order * math.log(x) - x - math.lgamma(order + 1))
        order += 1
    return min(1.0, tail)
