"""Answers are judged by letter or by text."""

import pytest

from foggen_runtime.evaluation.grading import (
    cloud_is_right,
    is_right,
    normalized,
    reply_is_right,
)
from foggen_runtime.text.questions import Question

QUESTION = "Which is larger?\nA) 3\nB) 5"


def test_letters_are_compared_as_letters_and_texts_after_normalizing() -> None:
    letter = Question("1", QUESTION, "B")
    assert is_right(letter, "B) 5", "B")
    assert not is_right(letter, "B", None)
    text = Question("1", "Who wrote it?", "The Beatles")
    assert is_right(text, "beatles!", None)
    assert not is_right(text, "a beetle", None)


def test_normalizing_is_squads() -> None:
    """By hand from SQuAD's evaluation: lower, no punctuation, no articles, single spaces."""
    assert normalized("  The  U.S.A., an   island ") == "usa island"


@pytest.mark.parametrize(
    ("cloud", "right"),
    [("B", True), ("The answer is B.", True), ("It is A.", False), ("no idea", False)],
)
def test_a_clouds_text_is_judged_by_the_letter_it_states(cloud: str, right: bool) -> None:
    assert cloud_is_right(Question("1", QUESTION, "B", cloud_answer=cloud)) is right


def test_a_clouds_thoughts_are_not_judged() -> None:
    question = Question("1", "Which?\nA) 1\nB) 2", "B")
    assert reply_is_right(question, "<think>The answer is A? No.</think>It is B")
    assert not reply_is_right(question, "<think>The answer is B")
    assert reply_is_right(Question("1", "Where?", "Paris"), "<think>Rome?</think>\nParis.")


def test_a_stated_verdict_on_the_cloud_wins() -> None:
    question = Question("1", QUESTION, "B", cloud_answer="A", cloud_correct=True)
    assert cloud_is_right(question) is True
    assert cloud_is_right(Question("1", QUESTION, "B")) is None


def test_nothing_is_judged_where_the_answer_is_not_known() -> None:
    assert is_right(Question("1", QUESTION), "B) 5", "B") is None
    assert cloud_is_right(Question("1", QUESTION, cloud_answer="B")) is None
