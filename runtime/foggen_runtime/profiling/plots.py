"""Two plots as inline SVG: horizontal bars, and strips of dots with their median."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _ROW, _LABEL, _VALUE = 800, 26, 200, 110
_PLOT = _WIDTH - _LABEL - _VALUE


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


def _label(text: str, top: int) -> str:
    return f'<text x="0" y="{top + 17}">{escape(text)}</text>'


def _svg(rows: int, drawn: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {rows * _ROW}" role="img" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(drawn)}</svg>'
    )
