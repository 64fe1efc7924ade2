"""Exact binomial bounds, against closed forms, exact sums and scipy."""

import math
from fractions import Fraction

import pytest

from foggen_runtime.statistics.intervals import interval, total_needed, upper_bound

TOTALS = (1, 2, 7, 60, 1200)
GRID = [
    (count, total)
    for total in TOTALS
    for count in sorted({0, 1, total // 100, total // 3, total // 2, total - 1, total})
]


@pytest.mark.parametrize(("count", "total"), [*GRID, (37, 1_000_000), (400_000, 1_000_000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_bounds_are_those_of_scipy(count: int, total: int, confidence: float) -> None:
    beta = pytest.importorskip("scipy.stats").beta
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, count, total - count + 1) if count else 0.0
    high = beta.ppf(1 - tail, count + 1, total - count) if count < total else 1.0
    one_sided = beta.ppf(confidence, count + 1, total - count) if count < total else 1.0
    assert interval(count, total, confidence) == pytest.approx((low, high), rel=1e-8)
    assert upper_bound(count, total, confidence) == pytest.approx(one_sided, rel=1e-8)


def test_scipy_calls_the_same_interval_exact() -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(14, 1200).proportion_ci(0.95, method="exact")
    assert interval(14, 1200) == pytest.approx((expected.low, expected.high), rel=1e-8)


@pytest.mark.parametrize(("count", "total"), [(0, 30), (1, 30), (11, 30), (29, 30)])
def test_at_the_bound_so_few_are_just_as_improbable_as_allowed(count: int, total: int) -> None:
    share = Fraction(upper_bound(count, total))
    tail = sum(
        math.comb(total, i) * share**i * (1 - share) ** (total - i) for i in range(count + 1)
    )
    assert float(tail) == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("total", TOTALS)
def test_without_a_single_one_there_is_a_closed_form(total: int) -> None:
    assert upper_bound(0, total) == pytest.approx(1 - 0.05 ** (1 / total), rel=1e-12)
    assert interval(0, total)[0] == 0
    assert interval(0, total)[1] == pytest.approx(1 - 0.025 ** (1 / total), rel=1e-12)
    assert interval(total, total)[0] == pytest.approx(0.025 ** (1 / total), rel=1e-12)
    assert interval(total, total)[1] == 1


@pytest.mark.parametrize(("count", "total"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match=rf"count: must be within .* is {count} of {total}"):
        interval(count, total)


def test_so_many_are_needed_and_one_less_is_not_enough() -> None:
    needed = total_needed(0, 60, 0.02)
    assert needed == 149
    assert upper_bound(0, needed) <= 0.02 < upper_bound(0, needed - 1)


@pytest.mark.parametrize(
    ("count", "total", "limit"),
    [(14, 1200, 0.0125), (1, 60, 0.02), (3, 10, 0.9), (199, 10_000, 0.02)],
)
def test_as_many_as_needed_keep_the_limit_at_the_same_share(
    count: int, total: int, limit: float
) -> None:
    needed = total_needed(count, total, limit)
    assert upper_bound(math.ceil(Fraction(count * needed, total)), needed) <= limit
    before = needed - 1
    assert upper_bound(math.ceil(Fraction(count * before, total)), before) > limit


@pytest.mark.parametrize("limit", [0.25, 0.2, 1.0])
def test_no_total_brings_the_bound_below_the_share(limit: float) -> None:
    with pytest.raises(ValueError, match=rf"share of 5 in 20 and below 1, is {limit}"):
        total_needed(5, 20, limit)
