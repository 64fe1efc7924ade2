"""The rule that keeps or defers, at its very edges."""

import math
from typing import get_args

import pytest

from foggen_runtime.ask.verdict import Verdict, judge
from foggen_runtime.bundle.manifest import ConfidenceKind, TemplateInfo
from foggen_runtime.decide.plain import Decision
from foggen_runtime.decide.trie import Reading

MINIMUM = 0.5
TEMPLATE = TemplateInfo(
    levels=("0.0", "0.25", "0.5", "0.75", "1.0"),
    level_ids=((0,), (1,), (2,), (3,), (4,)),
    separator_ids=(9,),
    answer_prefix="Final answer:",
    answer_prefix_ids=(8,),
    min_template_probability=MINIMUM,
)


def decision(
    level: int | None, expected: float = 0.5, template_probability: float = 1.0
) -> Decision:
    """A decision whose levels' mean is `expected`: the mass lies on `0.0` and `1.0`."""
    if level is None:
        return Decision((7,), None, None, 1.0)
    shares = (1 - expected, 0.0, 0.0, 0.0, expected)
    return Decision((level, 9), level, Reading(level, shares, template_probability), 1.0)


def verdict(
    made: Decision, tau: float, on: ConfidenceKind = "verbalized", *, forced: bool = True
) -> Verdict:
    return judge(made, TEMPLATE, tau, on, forced=forced)


@pytest.mark.parametrize("level", range(5))
def test_a_confidence_equal_to_tau_keeps(level: int) -> None:
    tau = TEMPLATE.level_values[level]
    assert verdict(decision(level), tau).reason == "confident"
    assert verdict(decision(level), math.nextafter(tau, 2)).reason == "below_tau"


def test_an_expected_confidence_equal_to_tau_keeps() -> None:
    made = decision(0, expected=0.625)
    assert verdict(made, 0.625, "expected").reason == "confident"
    assert verdict(made, math.nextafter(0.625, 1), "expected").reason == "below_tau"


def test_each_kind_of_confidence_is_compared_alone() -> None:
    assert verdict(decision(4, expected=0.25), 0.5, "verbalized").reason == "confident"
    assert verdict(decision(4, expected=0.25), 0.5, "expected").reason == "below_tau"
    assert get_args(ConfidenceKind) == ("verbalized", "expected")


def test_a_template_probability_equal_to_the_minimum_does_not_defer() -> None:
    assert verdict(decision(4, template_probability=MINIMUM), 0.5).reason == "confident"


def test_one_below_the_minimum_is_malformed_however_sure_the_level() -> None:
    below = math.nextafter(MINIMUM, 0)
    found = verdict(decision(4, expected=1.0, template_probability=below), 0.0)
    assert (found.reason, found.confidence, found.expected_confidence) == ("malformed", 1.0, 1.0)
    assert found.detail is not None
    assert "below the bundle's minimum 0.5" in found.detail


def test_a_level_that_was_not_forced_is_meant_however_improbable() -> None:
    made = decision(4, template_probability=math.nextafter(MINIMUM, 0))
    assert verdict(made, 0.5, forced=False).reason == "confident"


def test_an_output_off_the_template_is_malformed_at_any_tau() -> None:
    found = verdict(decision(None), 0.0)
    assert (found.reason, found.confidence) == ("malformed", None)


def test_without_all_levels_there_is_no_expected_confidence() -> None:
    found = verdict(Decision((4, 9), 4, None, 1.0), 1.0)
    assert found == Verdict("confident", 1.0, None)


def test_the_expected_confidence_weighs_every_level() -> None:
    shares = (0.1, 0.2, 0.3, 0.15, 0.25)
    made = Decision((2, 9), 2, Reading(2, shares, None), 1.0)
    assert verdict(made, 0.5).expected_confidence == pytest.approx(0.5625)
