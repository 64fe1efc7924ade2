"""What the benchmark of rounding methods concludes from decisions."""

import numpy as np
import pytest
from scipy.stats import binomtest  # type: ignore[import-untyped]

from benchmarks.rounding_bundles import EMBEDDING_ONLY, LAYERS_ONLY, SHIPPED
from benchmarks.rounding_judging import (
    FEWER,
    MORE,
    UNCLEAR,
    Cost,
    Decisions,
    Difference,
    Judged,
    Score,
    mcnemar,
)
from benchmarks.rounding_report import Report, conclusion


@pytest.mark.parametrize(("one", "other"), [(0, 0), (5, 5), (1, 9), (40, 12), (700, 900)])
def test_mcnemar_is_the_binomial_test(one: int, other: int) -> None:
    expected = binomtest(one, one + other).pvalue if one + other else 1.0
    assert mcnemar(one, other) == pytest.approx(expected, rel=1e-9)


def decisions(sides: str) -> Decisions:
    """Decisions by a letter each: above tau or below."""
    levels = np.array([1.0 if side == "a" else 0.25 for side in sides])
    return Decisions(levels, levels)


def test_differences_count_what_only_one_flips() -> None:
    reference = decisions("aaaabbbb")
    one, other = decisions("babbbbbb"), decisions("baaabbba")
    found = Difference.of(one, other, reference)
    assert (found.only_one, found.only_other) == (2, 1)
    assert found.flips == pytest.approx(1 / 8)
    assert found.change == pytest.approx(0.75 / 8)
    score = Score.of(one, reference)
    assert (score.flips, score.level_changes, score.questions) == (3, 3, 8)
    assert score.change == pytest.approx(3 * 0.75 / 8)


def test_a_verdict_needs_more_the_more_is_compared() -> None:
    reference, shipped = decisions("a" * 40), decisions("a" * 40)
    worse = Difference.of(decisions("a" * 33 + "b" * 7), shipped, reference)
    better = Difference.of(shipped, decisions("a" * 33 + "b" * 7), reference)
    assert worse.p_value == pytest.approx(2 / 2**7)
    assert (worse.flips_verdict(1), better.flips_verdict(1)) == (MORE, FEWER)
    assert worse.flips_verdict(7) == UNCLEAR


@pytest.mark.parametrize("better", [True, False])
def test_the_conclusion_names_what_is_better(better: bool) -> None:
    reference, few, many = (decisions("a" * count + "b" * (40 - count)) for count in (40, 39, 10))
    one, shipped = (few, many) if better else (many, few)

    def judged(method: str, own: Decisions) -> Judged:
        against = None if method == SHIPPED.name else Difference.of(own, shipped, reference)
        return Judged("s", method, Cost(1, 1), Score.of(own, reference), {}, against)

    rows = [judged(SHIPPED.name, shipped), judged("other", one)]
    sentences = conclusion(Report(rows, rows, rows))
    assert sentences[0] == f"As trained, {'fewer' if better else 'more'} flips: *other*."
    (change,) = (one for one in sentences if one.startswith("Mean change"))
    assert change.endswith(f"{'smaller' if better else 'larger'}: *other*.")
    start = f"**Fewer flips than {SHIPPED.name}: *other*" if better else "No method"
    assert sentences[-1].startswith(start)


@pytest.mark.parametrize("layers_help", [True, False])
def test_the_conclusion_says_where_the_gain_is(layers_help: bool) -> None:
    reference, few, many = (decisions("a" * count + "b" * (40 - count)) for count in (40, 39, 10))
    found = {SHIPPED: few, LAYERS_ONLY: many, EMBEDDING_ONLY: many if layers_help else few}
    rows = [
        Judged(
            "s",
            method.name,
            Cost(1, 1),
            Score.of(own, reference),
            {},
            None if method is SHIPPED else Difference.of(own, few, reference),
        )
        for method, own in found.items()
    ]
    said = any("gains in the embedding" in one for one in conclusion(Report(rows, rows, rows)))
    assert said == (not layers_help)
