"""Exact bounds of a share, by bisection on the binomial tail.

They are those of Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the
case of the binomial", Biometrika 26 (1934): never too narrow, whatever the share.
"""

import math
from collections.abc import Callable

CONFIDENCE = 0.95
_NEGLIGIBLE = 1e-17


def interval(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the two-sided interval of a share, e.g. of 3 flips in 100 decisions.

    Raises:
        ValueError: `count` is not within [0, total], or there is nothing to count.
    """
    one_sided = (1 + confidence) / 2
    high = upper_bound(count, total, one_sided)
    return 1 - upper_bound(total - count, total, one_sided), high


def upper_bound(count: int, total: int, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided upper bound of a share.

    It is the share at which `count` or fewer of `total` have a probability of `1 - confidence`.

    Raises:
        ValueError: `count` is not within [0, total], or there is nothing to count.
    """
    if total < 1 or not 0 <= count <= total:
        raise ValueError(f"count: must be within [0, total] of at least 1, is {count} of {total}")
    low, high = count / total, 1.0
    while low < (middle := (low + high) / 2) < high:
        if _at_most(count, total, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def total_needed(count: int, total: int, limit: float, confidence: float = CONFIDENCE) -> int:
    """Return about how large a total gives an upper bound of at most `limit` at the same share.

    As counts are whole numbers, a somewhat smaller total may also do.

    Raises:
        ValueError: The share itself is not below the limit, so that no total is large enough, or
            the limit is not below 1.
    """
    if not count / total < limit < 1:
        raise ValueError(
            f"limit: must be above the share of {count} in {total} and below 1, is {limit}"
        )

    def suffices(larger: int) -> bool:
        rounded_up = -(-count * larger // total)
        return _at_most(rounded_up, larger, limit) <= 1 - confidence

    return _first(suffices)


def _first(suffices: Callable[[int], bool]) -> int:
    """Return a number that is enough, while the one before it is not."""
    high = 1
    while not suffices(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if suffices(middle):
            high = middle
        else:
            low = middle
    return high


def _at_most(count: int, total: int, share: float) -> float:
    """Return the probability of `count` or fewer, for a `share` of about `count / total` or more.

    There the terms get smaller from `count` downwards, so the sum is of positive, shrinking terms.
    """
    term = relative = 1.0
    for i in range(count, 0, -1):
        term *= i * (1 - share) / ((total - i + 1) * share)
        relative += term
        if term < _NEGLIGIBLE * relative:
            break
    choose = math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1)
    likeliest = choose + count * math.log(share) + (total - count) * math.log1p(-share)
    return math.exp(likeliest + math.log(relative))
