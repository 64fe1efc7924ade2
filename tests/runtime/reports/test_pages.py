"""Pages as Markdown, and as plain text on terminals of any width."""

import pytest

from foggen_runtime.reports.pages import Page, Section, markdown, plain, plain_table

PAGE = Page(
    "int4 | fp32",
    (Section("Levels", ("level", "count"), (("0.25", "7"), ("a|b", "12")), note="A note."),),
    items=("A: one",),
    finding="0.83% flip",
    details="at tau = 0.5.",
)
HEAD = ("figure", "value", "what it means to somebody who reads it for the first time")
ROWS = (
    ("system accuracy", "87.50%", "how many answers are right, wherever they come from"),
    ("routed share", "9.00%", "how many questions go to the cloud"),
)


def test_markdown_is_markdown() -> None:
    assert markdown(PAGE) == (
        "# int4 \\| fp32\n\n- A: one\n\n**0.83% flip** at tau = 0.5.\n\n## Levels\n\n"
        "| level | count |\n|-------|-------|\n| 0.25  | 7     |\n| a\\|b  | 12    |\n\nA note.\n"
    )


def test_plain_text_has_no_marks_of_markdown() -> None:
    assert plain(PAGE) == (
        "int4 | fp32\n\n- A: one\n\n0.83% flip at tau = 0.5.\n\n"
        "Levels\nlevel  count\n-----  -----\n0.25       7\na|b       12\n\nA note.\n"
    )


def test_a_section_without_names_has_no_head() -> None:
    assert plain_table(("", ""), (("memory", "4 MB"), ("kernel", "6.1"))) == (
        "memory  4 MB\nkernel  6.1"
    )


@pytest.mark.parametrize("width", [200, 100, 80, 60, 40])
def test_a_table_fits_and_loses_no_word(width: int) -> None:
    text = plain_table(HEAD, ROWS, width)
    assert max(map(len, text.splitlines())) <= width
    words = {word for row in (HEAD, *ROWS) for cell in row for word in cell.split()}
    assert words <= set(text.split())


def test_a_terminal_too_narrow_for_columns_gets_lists() -> None:
    text = plain_table(HEAD, ROWS, 25)
    assert max(map(len, text.splitlines())) <= 25
    assert text.startswith("system accuracy\n  value: 87.50%\n")


def test_without_a_terminal_no_line_is_broken() -> None:
    assert len(plain_table(HEAD, ROWS).splitlines()) == 2 + len(ROWS)


def test_numbers_are_aligned_to_the_right() -> None:
    lines = plain_table(("recipe", "MB"), (("int4", "2.9"), ("fp32", "14.8"), ("-", "-"))).split(
        "\n"
    )
    assert lines[2:] == ["int4     2.9", "fp32    14.8", "-          -"]


def test_words_are_never_broken() -> None:
    sha256 = 64 * "a"
    assert sha256 in plain_table(("sha256", "size"), ((sha256, "7"),), 30)
