"""The one page that every command writes as HTML."""

from foggen_runtime.reports.html_page import Bar, Figure, Strip, bars, html_page, strips
from foggen_runtime.reports.pages import Page, Section, markdown


def test_text_is_escaped() -> None:
    page = Page("<h>", (Section("a & b", ("<x>",), (("1 | 2",),)),))
    assert "1 \\| 2" in markdown(page)
    shown = html_page(page, [Figure("<?xml?><svg></svg>", "<c>")])
    assert "<title>&lt;h&gt;</title>" in shown
    assert "<th>&lt;x&gt;</th>" in shown
    assert "<figure><figcaption>&lt;c&gt;</figcaption><svg></svg></figure>" in shown
    assert "<?xml" not in shown


def test_whatever_a_page_says_is_there_in_its_order() -> None:
    section = Section("title", ("head",), (("cell",),), intro="before", note="after")
    page = Page("heading", (section,), items=("item",), finding="found", details="how")
    shown = html_page(page, [Figure("<svg></svg>")])
    words = ("heading", "item", "found how", "<svg>", "title", "before", "head<", "cell", "after")
    places = [shown.index(f">{word}" if word[0] != "<" else word) for word in words]
    assert places == sorted(places)
    assert "<figcaption>" not in shown


def test_bars_are_as_long_as_their_values() -> None:
    drawn = bars([Bar("a", 1, "one"), Bar("b<", 2, "two")])
    assert 'width="245.0"' in drawn
    assert 'width="490.0"' in drawn
    assert "b&lt;" in drawn


def test_a_strip_shows_each_value_and_the_median_and_an_empty_one_is_left_out() -> None:
    drawn = strips([Strip("a", [1.0, 2.0, 9.0]), Strip("none", [])])
    assert drawn.count("<circle") == 3
    assert ">2.0</text>" in drawn
    assert "none" not in drawn
