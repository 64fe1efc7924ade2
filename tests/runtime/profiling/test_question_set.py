import pytest

from foggen_runtime.profiling.question_set import built_in_questions, padded, repeated
from foggen_runtime.text.choice import question_options


def words(text: str) -> int:
    return 5 + len(text.split())


def test_the_built_in_questions_have_options() -> None:
    questions = built_in_questions()
    assert len(set(questions)) == len(questions) >= 12
    assert all(len(question_options(question)) >= 2 for question in questions)


@pytest.mark.parametrize("tokens", [20, 21, 160])
def test_padding_reaches_the_length(tokens: int) -> None:
    question = "Which? A) one B) two"
    text = padded(question, tokens, words)
    assert words(text) == tokens
    assert text.endswith(question)


def test_a_question_that_is_long_already_stays() -> None:
    assert padded("Which? A) one B) two", 4, words) == "Which? A) one B) two"


def test_padding_goes_no_further_than_the_length() -> None:
    def by_threes(text: str) -> int:
        return 3 * len(text.split())

    assert by_threes(padded("Which? A) B)", 20, by_threes)) == 18


def test_questions_come_again_where_there_are_few() -> None:
    assert repeated(("a", "b"), 5) == ("a", "b", "a", "b", "a")


@pytest.mark.parametrize("tokens", range(30, 45))
def test_where_a_word_is_too_long_a_shorter_one_goes_in(tokens: int) -> None:
    assert tokens - len(padded("Q?", tokens, len)) <= 1
