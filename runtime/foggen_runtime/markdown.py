"""Markdown tables whose columns also line up as plain text."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table: the head's cells, then a line for each row."""
    cells = [[cell(text) for text in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def cell(text: str) -> str:
    """Return text that keeps to its table cell."""
    return " ".join(text.replace("|", "\\|").split())
