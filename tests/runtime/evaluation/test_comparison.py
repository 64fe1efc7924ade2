"""The figures of a comparison, by hand."""

import json
import math
from dataclasses import replace

import pytest

from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.comparison import Comparison, Figures, Rate, Rates, agree, compare
from foggen_runtime.evaluation.records import Record
from foggen_runtime.jsonio import dumps
from foggen_runtime.statistics.intervals import interval, upper_bound
from tests.support.answers import answers, record

KNOWN: list[tuple[str | None, str | None]] = [
    ("A", "sums"),
    ("A", "myths"),
    ("C", "sums"),
    (None, "sums"),
    ("E", "myths"),
    ("A", None),
]
#         flips at tau 0.5:  no no  yes  no   yes   no
REFERENCE = answers("fp32", [0, 2, 1, 1, 2, None], "ABCD-A", KNOWN)
OTHER = answers("int4", [0, 2, 0, 2, None, None], "ABDA--", KNOWN)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(REFERENCE, OTHER, tau=0.5)


def rate(count: int, total: int) -> Rate:
    return Rate(count, total, count / total, *interval(count, total))


def test_a_flip_is_a_decision_that_differs(comparison: Comparison) -> None:
    assert comparison.questions == 6
    assert comparison.flips == rate(2, 6)
    assert comparison.flip_rate_upper_bound == upper_bound(2, 6)


def test_flips_are_counted_at_every_level_as_tau(comparison: Comparison) -> None:
    flips = [(row.tau, row.flips.count) for row in comparison.flips_by_tau]
    assert flips == [(0.0, 1), (0.5, 2), (1.0, 2)]


def test_levels_of_the_same_value_are_one_tau() -> None:
    one = replace(answers("fp32", [2, 2]), levels=("1", "1.0"))
    assert [row.tau for row in compare(one, one, 1).flips_by_tau] == [1.0]


def test_malformed_output_defers_even_at_tau_0() -> None:
    malformed, sure = answers("fp32", [None], "-"), answers("int4", [0])
    assert compare(malformed, sure, tau=0).flips.count == 1
    assert compare(malformed, malformed, tau=0).flips.count == 0


def test_tau_itself_is_confident_enough() -> None:
    below, at = answers("fp32", [1]), answers("int4", [2])
    assert compare(below, at, tau=1.0).flips.count == 1
    assert compare(below, at, tau=0.5).flips.count == 0
    assert compare(below, at, tau=0.51).flips.count == 1


def on_expected(confidence: float) -> Record:
    """Return a record of level 0.5 whose expected confidence is another."""
    return replace(record(0.5), expected_confidence=confidence)


def test_tau_is_compared_with_what_each_bundle_was_calibrated_on() -> None:
    stated = answers("fp32", [1, 1, 1])
    expected = replace(
        stated,
        bundle=replace(stated.bundle, tau_on="expected"),
        records=(on_expected(0.49), on_expected(0.51), record(None)),
    )
    for pair in ((stated, expected), (expected, stated)):
        found = compare(*pair, tau=0.5)
        assert found.flips == rate(2, 3)
        assert [row.flips.count for row in found.flips_by_tau] == [1, 2, 0]
    assert compare(expected, expected, tau=0.5).deferred.other == rate(2, 3)
    # A level of 0.5 alone would keep all but the malformed one.
    verbalized = replace(expected, bundle=stated.bundle)
    assert compare(stated, verbalized, tau=0.5).flips == rate(1, 3)


def test_confusion_has_a_row_for_each_level_of_the_reference(comparison: Comparison) -> None:
    assert comparison.confusion == (
        (1, 0, 0, 0),
        (1, 0, 1, 0),
        (0, 0, 1, 1),
        (0, 0, 0, 1),
    )


def test_expected_confidence_changes_where_both_gave_a_level(comparison: Comparison) -> None:
    assert comparison.expected_confidence_change == pytest.approx((0 + 0 + 0.5 + 0.5) / 4)


def test_malformed_output_has_no_expected_confidence_to_compare() -> None:
    sure = answers("fp32", [2])
    malformed = answers("int4", [None])
    assert compare(sure, malformed, 0.5).expected_confidence_change is None


def test_answers_agree_among_those_of_either(comparison: Comparison) -> None:
    assert comparison.answer_agreement == rate(2, 5)
    nothing = answers("fp32", [None], "-")
    assert compare(nothing, nothing, 0.5).answer_agreement is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("B) Paris", "B"), ("B", "B"), True),
        (("B", "B"), ("C", "C"), False),
        (("Paris", None), ("Paris", None), True),
        (("Paris", None), ("Rome", None), False),
        (("Paris", None), ("B", "B"), False),
        (("B", None), ("B", "B"), False),
        (("Paris", None), (None, None), False),
        ((None, None), (None, None), False),
    ],
)
def test_answers_are_compared_by_letter_or_by_text(
    one: tuple[str | None, str | None], other: tuple[str | None, str | None], same: bool
) -> None:
    first, second = (
        replace(record(0.0), local_answer=text, local_choice=letter)
        for text, letter in (one, other)
    )
    assert agree(first, second) is same
    assert agree(second, first) is same


def test_deferrals_of_both(comparison: Comparison) -> None:
    assert comparison.deferred == Rates(rate(2, 6), rate(4, 6), 4 / 6 - 2 / 6)


def test_accuracy_is_of_questions_whose_answer_is_known(comparison: Comparison) -> None:
    assert comparison.accuracy == Rates(rate(3, 5), rate(1, 5), 1 / 5 - 3 / 5)


def test_auroc_and_ece_are_of_known_answers_with_a_level(comparison: Comparison) -> None:
    """The reference's levels and answers: 0 right, 2 wrong, 1 right, 2 wrong."""
    assert comparison.auroc
    assert comparison.auroc.reference == 0.0
    assert comparison.auroc.other == 0.25  # 0 right, 2 wrong, 0 wrong
    assert comparison.auroc.delta == 0.25
    assert comparison.ece
    assert comparison.ece.reference == pytest.approx((1 + 2 + 0.5) / 4)
    assert comparison.ece.other == pytest.approx((1 + 1) / 3)
    assert comparison.ece.delta == pytest.approx(2 / 3 - 3.5 / 4)


def test_without_known_answers_there_is_no_accuracy() -> None:
    comparison = compare(answers("fp32", [1]), answers("int4", [1]), 0.5)
    assert (comparison.accuracy, comparison.auroc, comparison.ece) == (None, None, None)


def test_a_figure_that_is_undefined_for_one_has_no_change() -> None:
    right, mixed = (answers("x", [1, 1], letters, KNOWN[:2]) for letters in ("AA", "AB"))
    assert compare(right, mixed, 0.5).auroc == Figures(None, 0.5, None)
    assert compare(mixed, right, 0.5).auroc == Figures(0.5, None, None)


def test_domains_in_the_order_of_the_file(comparison: Comparison) -> None:
    sums, myths, none = comparison.domains
    assert [row.domain for row in comparison.domains] == ["sums", "myths", None]
    assert [row.questions for row in comparison.domains] == [3, 2, 1]
    assert [row.flips.count for row in comparison.domains] == [1, 1, 0]
    assert sums.answer_agreement == rate(1, 3)
    assert sums.accuracy == Rates(rate(2, 2), rate(1, 2), -0.5)
    assert myths.answer_agreement == rate(1, 1)
    assert none.answer_agreement == rate(0, 1)


def test_a_file_without_domains_has_no_rows() -> None:
    one = answers("fp32", [1])
    assert compare(one, one, 0.5).domains == ()


def test_json_has_every_figure_and_its_version_first(comparison: Comparison) -> None:
    document = json.loads(dumps(comparison.to_dict()))
    assert next(iter(document)) == "schema_version"
    assert document["schema_version"] == 1
    assert document["flips"]["rate"] == 2 / 6
    facts = {"name": "tiny", "recipe": "fp32", "sha256": "fp32" * 8, "tau_on": "verbalized"}
    assert document["reference"] == facts
    assert document["domains"][0]["accuracy"]["delta"] == -0.5


def test_other_levels_are_refused() -> None:
    other = replace(answers("int4", [0]), levels=("0.0", "1.0"))
    with pytest.raises(ConfigError, match=r"reference has 0\.0, 0\.5, 1\.0, the other 0\.0, 1\.0"):
        compare(answers("fp32", [0]), other, 0.5)


@pytest.mark.parametrize("tau", [-0.1, 1.1, math.nan])
def test_an_impossible_tau_is_refused(tau: float) -> None:
    one = answers("fp32", [0])
    with pytest.raises(ConfigError, match=rf"tau: must be within \[0, 1\], is {tau}"):
        compare(one, one, tau)
