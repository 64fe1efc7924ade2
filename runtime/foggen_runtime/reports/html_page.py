"""A page as one self-contained HTML file: pictures as inline SVG, then the tables.

Colours are CSS variables, so that the page follows the reader's light or dark setting; bars and
strips are drawn here in these colours without a library.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from foggen_runtime.reports.pages import Page, Section

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --faint: #6b7784; --paper: #ffffff;
  --line: #e4e7eb; --bar: #2563a8; --mark: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --faint: #98a4b0;
  --paper: #14181d; --line: #2c333b; --bar: #6ea8e0; --mark: #f08a4b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p { color: var(--faint); } figure { margin: 1.5rem 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .faint { fill: var(--faint); }
svg .bar { fill: var(--bar); } svg .dot { fill: var(--bar); fill-opacity: .45; }
svg .median { stroke: var(--mark); stroke-width: 2; } svg .axis { stroke: var(--line); }
"""
_WIDTH, _ROW, _LABEL, _VALUE = 800, 26, 200, 110
_PLOT = _WIDTH - _LABEL - _VALUE


@dataclass(frozen=True)
class Figure:
    """A picture as an SVG document, and a caption above it; empty for none."""

    svg: str
    caption: str = ""


@dataclass(frozen=True)
class Bar:
    """A value of at least 0 with its label, and the text at its end."""

    label: str
    value: float
    text: str


@dataclass(frozen=True)
class Strip:
    """Values of at least 0 on one line."""

    label: str
    values: Sequence[float]


def html_page(page: Page, figures: Sequence[Figure]) -> str:
    """Return the whole file."""
    title = escape(page.title)
    parts = [
        *(_paragraph(text) for text in (*page.items, f"{page.finding} {page.details}".strip())),
        *map(_figure, figures),
        *map(_section, page.sections),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        + "\n".join(filter(None, parts))
        + "\n</body>\n</html>\n"
    )


def bars(rows: Sequence[Bar]) -> str:
    """Draw one bar for each row, all from 0."""
    scale = _PLOT / (max((row.value for row in rows), default=0) or 1)
    drawn = []
    for number, row in enumerate(rows):
        top, width = number * _ROW, row.value * scale
        drawn.append(
            f'{_label(row.label, top)}<rect class="bar" x="{_LABEL}" y="{top + 5}" '
            f'width="{width:.1f}" height="{_ROW - 10}"/>'
            f'<text class="faint" x="{_LABEL + width + 6:.1f}" y="{top + 17}">'
            f"{escape(row.text)}</text>"
        )
    return _svg(len(rows), drawn)


def strips(rows: Sequence[Strip]) -> str:
    """Draw each row's values as dots from 0, its median as a line with the number."""
    rows = [row for row in rows if row.values]
    scale = _PLOT / (max((max(row.values) for row in rows), default=0) or 1)
    drawn = []
    for number, row in enumerate(rows):
        top, median = number * _ROW, statistics.median(row.values)
        middle, x = top + _ROW / 2, _LABEL + median * scale
        dots = "".join(
            f'<circle class="dot" cx="{_LABEL + value * scale:.1f}" cy="{middle}" r="4"/>'
            for value in row.values
        )
        drawn.append(
            f'{_label(row.label, top)}<line class="axis" x1="{_LABEL}" x2="{_LABEL + _PLOT}" '
            f'y1="{middle}" y2="{middle}"/>{dots}'
            f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="{top + 4}" y2="{top + 22}"/>'
            f'<text class="faint" x="{_LABEL + _PLOT + 8}" y="{top + 17}">{median:.1f}</text>'
        )
    return _svg(len(rows), drawn)


def _paragraph(text: str) -> str:
    return text and f"<p>{escape(text)}</p>"


def _figure(figure: Figure) -> str:
    caption = figure.caption and f"<figcaption>{escape(figure.caption)}</figcaption>"
    # An SVG document's prolog does not belong inside a page.
    return f"<figure>{caption}{figure.svg[figure.svg.index('<svg') :]}</figure>"


def _section(section: Section) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in section.head)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>"
        for row in section.rows
    )
    title = section.title and f"<h2>{escape(section.title)}</h2>\n"
    table = f"<table><tr>{head}</tr>\n{rows}</table>"
    return f"{title}{_paragraph(section.intro)}{table}{_paragraph(section.note)}"


def _label(text: str, top: int) -> str:
    return f'<text x="0" y="{top + 17}">{escape(text)}</text>'


def _svg(rows: int, drawn: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {rows * _ROW}" role="img" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(drawn)}</svg>'
    )
