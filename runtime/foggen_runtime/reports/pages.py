"""Pages of text and tables: as Markdown, and as plain text that fits a terminal."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

_GAP = "  "
_NUMBER = re.compile(r"([-+±]?\d[\d.,]*( ?%)?)|-|")


@dataclass(frozen=True)
class Section:
    """A table and what is said about it.

    Attributes:
        title: Above it; empty for none.
        head: The columns' names.
        rows: The cells, as many in each row as the head has.
        intro: A paragraph before the table.
        note: A paragraph after it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    intro: str = ""
    note: str = ""


@dataclass(frozen=True)
class Page:
    """What a command found out.

    Attributes:
        title: What it is about.
        sections: Tables.
        items: A list below the title.
        finding: The one sentence to read.
        details: What follows it.
    """

    title: str
    sections: tuple[Section, ...]
    items: tuple[str, ...] = ()
    finding: str = ""
    details: str = ""


def markdown(page: Page) -> str:
    """Return the page in Markdown, its columns lined up for reading as plain text."""
    parts = [f"# {cell(page.title)}", "\n".join(f"- {cell(item)}" for item in page.items)]
    if page.finding:
        parts.append(f"**{page.finding}** {page.details}".rstrip())
    for section in page.sections:
        title = section.title and f"## {section.title}"
        parts += [title, section.intro, table(section.head, section.rows), section.note]
    return "\n\n".join(filter(None, parts)) + "\n"


def plain(page: Page, width: int | None = None) -> str:
    """Return the page as plain text.

    Args:
        page: What to say.
        width: The most columns of a line; None for no limit.
    """
    items = [filled(f"- {item}", width, indent="  ") for item in page.items]
    finding = f"{page.finding} {page.details}".strip()
    parts = [filled(page.title, width), "\n".join(items), filled(finding, width)]
    for section in page.sections:
        above = [filled(text, width) for text in (section.title, section.intro) if text]
        columns = plain_table(section.head, section.rows, width)
        parts += ["\n".join([*above, columns]), filled(section.note, width)]
    return "\n\n".join(filter(None, parts)) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: the head's cells, then a line for each row."""
    cells = [[cell(text) for text in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def cell(text: str) -> str:
    """Return text that fits in one table cell."""
    return " ".join(text.replace("|", "\\|").split())


def plain_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None
) -> str:
    """Return aligned columns, numbers to the right.

    What is too wide is wrapped between words, the widest columns first; if that is not enough, each
    row becomes a list.

    Args:
        head: The columns' names; all empty for none.
        rows: The cells.
        width: The most columns of a line; None for no limit.
    """
    names, *body = ([" ".join(text.split()) for text in row] for row in (head, *rows))
    columns = list(zip(names, *body, strict=True))
    widths = _fitted(columns, width)
    if widths is None:
        return _records(names, body, width)
    aligned = [
        str.rjust if all(map(_NUMBER.fullmatch, texts)) else str.ljust for _, *texts in columns
    ]
    lines: list[str] = []
    for row in (names, *body) if any(names) else body:
        wrapped = [_wrap(text, size) or [""] for text, size in zip(row, widths, strict=True)]
        for parts in zip_longest(*wrapped, fillvalue=""):
            cells = zip(aligned, parts, widths, strict=True)
            lines.append(_GAP.join(pad(text, size) for pad, text, size in cells).rstrip())
        if row is names:
            lines.append(_GAP.join("-" * size for size in widths))
    return "\n".join(lines)


def filled(text: str, width: int | None, indent: str = "") -> str:
    """Return a paragraph wrapped to a width, with its lines after the first indented."""
    return "\n".join(_wrap(text, width, indent))


def _fitted(columns: Sequence[Sequence[str]], width: int | None) -> list[int] | None:
    """Return each column's width, the widest made narrower; None if words would break."""
    widths = [max(map(len, column)) for column in columns]
    least = [
        max(len(word) for text in column for word in [*text.split(), ""]) for column in columns
    ]
    room = None if width is None else width - len(_GAP) * (len(columns) - 1)
    while room is not None and sum(widths) > room:
        spare = [size if size > low else 0 for size, low in zip(widths, least, strict=True)]
        if not any(spare):
            return None
        widths[spare.index(max(spare))] -= 1
    return widths


def _records(names: Sequence[str], rows: Iterable[Sequence[str]], width: int | None) -> str:
    """Return each row as its first cell, and below it the others with their columns' names."""
    records = []
    for first, *others in rows:
        lines = [filled(first, width)]
        for name, text in zip(names[1:], others, strict=True):
            if text:
                lines.append(filled(f"  {name}: {text}" if name else f"  {text}", width, "    "))
        records.append("\n".join(lines))
    return "\n\n".join(records)


def _wrap(text: str, width: int | None, indent: str = "") -> list[str]:
    """Return wrapped lines; words are never broken, as somebody may want to copy them."""
    if width is None:
        return [text]
    wrapper = textwrap.TextWrapper(max(width, 1), break_long_words=False, break_on_hyphens=False)
    wrapper.subsequent_indent = indent
    return wrapper.wrap(text)
