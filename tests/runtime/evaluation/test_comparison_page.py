"""The comparison as Markdown and as a picture."""

import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.comparison import Comparison, compare
from foggen_runtime.evaluation.comparison_page import page as page_of
from foggen_runtime.evaluation.comparison_page import picture
from foggen_runtime.reports.pages import markdown
from tests.support.answers import answers, with_flips

KNOWN = [("A", "a|b"), ("A", "a|b"), ("A", "c\nd")]


@pytest.fixture
def comparison() -> Comparison:
    reference = answers("fp32", [0, 2, 2], "AAB", KNOWN)
    return compare(reference, answers("int4", [2, 2, 1], "ABB", KNOWN), tau=0.5)


def row(page: str, name: str) -> list[str]:
    (found,) = (line for line in page.splitlines() if line.startswith(f"| {name} "))
    return [cell.strip() for cell in found.strip("|").split(" | ")]


def test_the_flip_rate_comes_first(comparison: Comparison) -> None:
    title, *rest = markdown(page_of(comparison)).splitlines()
    assert title == "# int4 against fp32"
    (summary,) = (line for line in rest if line.startswith("**"))
    assert summary == (
        "**33.33% of decisions flip** at tau = 0.5: 1 of 3, 95 % interval [0.84, 90.57]. "
        "With 95 % confidence the rate is at most 86.46%."
    )


def test_it_says_what_tau_is_compared_with(comparison: Comparison) -> None:
    on_expected = replace(comparison.other, tau_on="expected")
    page = markdown(page_of(replace(comparison, other=on_expected)))
    assert "bundle fp32fp32fp32fp32fp32fp32fp32fp32; tau is compared with its verbalized" in page
    assert "bundle int4int4int4int4int4int4int4int4; tau is compared with its expected" in page


def test_levels_are_cut_by_tau_only_where_it_is_compared_with_them(comparison: Comparison) -> None:
    pytest.importorskip("matplotlib")
    on_expected = replace(comparison.other, tau_on="expected")
    drawn = [
        picture(one, "svg").decode() for one in (comparison, replace(comparison, other=on_expected))
    ]
    assert ["top right and bottom left of tau flip" in one for one in drawn] == [True, False]
    # The lines are the only ones of this width.
    assert [one.count("stroke-width: 2;") for one in drawn] == [2, 1]


def test_figures_of_both_stand_side_by_side(comparison: Comparison) -> None:
    page = markdown(page_of(comparison))
    accuracy = ["local accuracy", "66.67% [9.43, 99.16]", "33.33% [0.84, 90.57]", "-33.33%"]
    assert row(page, "local accuracy") == accuracy
    assert row(page, "deferred")[1:] == ["33.33% [0.84, 90.57]", "0.00% [0.00, 70.76]", "-33.33%"]
    assert row(page, "AUROC") == ["AUROC", "0.2500", "0.7500", "+0.5000"]
    assert row(page, "expected confidence")[-1] == "±0.5000"
    assert "Answers agree on 66.67% [9.43, 99.16] of 3 answered questions." in page


def test_levels_taus_and_domains_have_tables(comparison: Comparison) -> None:
    page = markdown(page_of(comparison))
    assert row(page, "fp32 \\ int4") == ["fp32 \\ int4", "0.0", "0.5", "1.0", "malformed"]
    assert row(page, "1.0") == ["1.0", "0", "1", "1", "0"]
    assert row(page, "1  ")[:2] == ["1", "2"]
    assert row(page, "a\\|b")[:3] == ["a\\|b", "2", "50.00% [1.26, 98.74]"]
    assert row(page, "c d")[1] == "1"


def test_what_is_unknown_is_left_out() -> None:
    page = markdown(page_of(with_flips(0, 3)))
    assert "accuracy" not in page
    assert "AUROC" not in page
    assert "Domains" not in page


def test_a_domain_without_known_answers_has_a_dash() -> None:
    one = answers("fp32", [0, 2], known=[KNOWN[0], (None, "x")])
    assert row(markdown(page_of(compare(one, one, 0.5))), "x")[-2:] == ["-", "-"]


def test_bundles_of_one_recipe_are_a_and_b(comparison: Comparison) -> None:
    page = markdown(page_of(replace(comparison, other=comparison.reference)))
    assert page.startswith("# B against A\n")
    assert "- A: tiny, recipe fp32, bundle fp32fp32" in page


def test_svg_shows_levels_and_flips_the_same_every_time(comparison: Comparison) -> None:
    pytest.importorskip("matplotlib")
    drawn = picture(comparison, "svg")
    assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"
    text = drawn.decode()
    assert "<!-- int4 against fp32: 33.33% of 3 decisions flip at tau = 0.5 -->" in text
    assert "<!-- confidence by int4 -->" in text
    assert "<!-- 66.67 -->" in text
    assert "malformed" not in text
    assert picture(comparison, "svg") == drawn


def test_malformed_output_is_drawn_where_there_is_any() -> None:
    pytest.importorskip("matplotlib")
    reference, other = answers("fp32", [1]), answers("int4", [None], "-")
    drawn = picture(compare(reference, other, 0.6), "svg").decode()
    assert "<!-- malformed -->" in drawn
    assert "<!-- 0.6 -->" in drawn


def test_png_is_a_png(comparison: Comparison) -> None:
    pytest.importorskip("matplotlib")
    assert picture(comparison, "png").startswith(b"\x89PNG\r\n")


def test_without_matplotlib_it_says_what_to_install(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'foggen\[report\]'"):
        picture(comparison, "svg")
