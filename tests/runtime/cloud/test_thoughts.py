"""Thoughts in the text of an answer."""

import pytest

from foggen_runtime.cloud.thoughts import ThoughtFilter, split_unopened, without_thoughts


def filtered(*pieces: str) -> tuple[str, str]:
    """Return the thoughts and the answer of a text that comes in these pieces."""
    reading = ThoughtFilter()
    answer = "".join([*map(reading.feed, pieces), reading.finish()])
    return "".join(reading.thoughts), answer


@pytest.mark.parametrize(
    ("text", "thoughts", "answer"),
    [
        ("<think>B? No.</think>\n\nIt is A.", "B? No.", "It is A."),
        ("\n <think>\nB?\n</think>A", "\nB?\n", "A"),
        ("<thinking>B</thinking>A", "B", "A"),
        ("<thought>B</thought>A", "B", "A"),
        ("<seed:think>B</seed:think>A", "B", "A"),
        ("[THINK]B[/THINK]A", "B", "A"),
        ("<think></think>A", "", "A"),
        ("<think>B</think> <think>C</think>A", "BC", "A"),
        ("<think>1 < 2 </thin </thinking></think>A", "1 < 2 </thin </thinking>", "A"),
        ("<think>B, and then", "B, and then", ""),
        ("<think>B</thi", "B</thi", ""),
        ("<thi", "", "<thi"),
        ("  A\n", "", "  A\n"),
        (" \n", "", " \n"),
        ("<thinker> A", "", "<thinker> A"),
        ("The tag <think>B</think> is A", "", "The tag <think>B</think> is A"),
        ("", "", ""),
    ],
)
def test_blocks_at_the_beginning_are_thoughts_however_the_text_is_cut(
    text: str, thoughts: str, answer: str
) -> None:
    assert filtered(text) == (thoughts, answer)
    assert filtered(*text) == (thoughts, answer)
    for cut in range(len(text)):
        assert filtered(text[:cut], text[cut:]) == (thoughts, answer)


def test_the_answer_is_handed_on_as_it_comes() -> None:
    reading = ThoughtFilter()
    pieces = ["<", "think", ">B", "</think>", "\n", "A", "<think>", "!"]
    assert [reading.feed(piece) for piece in pieces] == ["", "", "", "", "", "A", "<think>", "!"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is not B.\n</think>\n\nA", ("It is not B.\n", "A")),
        ("<think>B</think>A", ("", "<think>B</think>A")),
        ("B</think>A</think>C", ("B", "A</think>C")),
        ("A", ("", "A")),
    ],
)
def test_a_block_that_the_chat_template_opened_ends_at_its_tag(
    text: str, expected: tuple[str, str]
) -> None:
    assert split_unopened(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Well. <think>B?</think> A", "Well.  A"),
        ("A <think>or is it B", "A "),
        ("B</think>A <think>C</think>", "A "),
        ("<think>B", ""),
        ("A", "A"),
    ],
)
def test_no_block_is_looked_at_for_a_letter_wherever_it_is(text: str, expected: str) -> None:
    assert without_thoughts(text) == expected


def test_long_thoughts_take_time_in_proportion() -> None:
    reading = ThoughtFilter()
    reading.feed("<think>")
    for _ in range(200_000):
        reading.feed("a <b")
        assert len(reading._rest) < 20
