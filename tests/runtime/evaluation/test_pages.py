"""Tables and pictures."""

import xml.etree.ElementTree as ET

import pytest

from foggen_runtime.evaluation.pairing import pair
from foggen_runtime.evaluation.pictures import Series, picture
from foggen_runtime.evaluation.routing import sweep
from foggen_runtime.evaluation.summary import Threshold, summarize
from foggen_runtime.evaluation.tables import (
    heading,
    pairing_tables,
    summary_tables,
    sweep_table,
)
from foggen_runtime.reports.pages import Page, markdown
from tests.support.recorded import LEVELS, random_decisions, recorded

DATA = random_decisions(200, seed=1)
SUMMARY = summarize(DATA, Threshold(0.5))


def test_the_page_tells_the_figures_and_domains() -> None:
    text = markdown(Page(heading(DATA.header, SUMMARY), tuple(summary_tables(SUMMARY))))
    assert text.startswith("# tiny, fp32: 200 questions at tau = 0.5 on verbalized confidence\n")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")]
    assert ["routed share", f"{SUMMARY.routed_share:.2%}"] in [row[:2] for row in rows]
    assert [row[:1] for row in rows].count(["law"]) == 1
    assert any(row[:1] == ["mean over domains"] for row in rows)


def test_a_sweep_shows_costs_only_with_prices() -> None:
    points = sweep(DATA, LEVELS)
    assert "cost" not in sweep_table(points, priced=False).head
    priced = sweep_table(points, priced=True)
    assert priced.head[-1] == "cost"
    assert {len(row) for row in priced.rows} == {len(priced.head)}


def test_a_comparison_shows_flips() -> None:
    other = random_decisions(200, seed=2)
    pairing = pair(DATA, other, Threshold(0.5))
    decisions, _ = pairing_tables(pairing)
    assert decisions.rows[0][1] == str(pairing.flips.count)


def test_pictures_are_drawn_and_repeat() -> None:
    pytest.importorskip("matplotlib")
    series = [
        Series("fp32", DATA, Threshold(0.5)),
        Series("int4", random_decisions(200, seed=2), Threshold(0.4, "expected")),
    ]
    svg = picture(series, "svg")
    assert ET.fromstring(svg).tag.endswith("svg")
    assert svg == picture(series, "svg")
    assert svg != picture(series[:1], "svg")
    assert picture(series[:1], "png").startswith(b"\x89PNG")


def test_pictures_do_without_cloud_domains_and_kept_answers() -> None:
    pytest.importorskip("matplotlib")
    poor = recorded([-float("inf"), 0.25], [False, True], [None, None])
    assert picture([Series("x", poor, Threshold(1.0))], "svg")
