import json
from pathlib import Path
from typing import Any

import pytest

from foggen_runtime import ConfigError
from foggen_runtime.evaluation.grading import LabelledQuestion, normalized, read_labelled

QUESTION = "Which is larger?\nA) 3\nB) 5"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def line(**fields: Any) -> str:
    return json.dumps({"question": QUESTION, "answer": "B", **fields})


def test_questions_come_in_order_with_line_numbers_for_missing_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", line(id="x"), "", line(domain="math", other=1))
    first, second = read_labelled(path).questions
    assert (first.id, second.id, second.domain) == ("x", "3", "math")


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ('{"question": ', "must be a JSON object"),
        ("[]", "must be an object"),
        (json.dumps({"question": QUESTION}), "field 'answer' is missing"),
        (line(answer=1), "answer: must be a string, is 1"),
        (line(question=" "), "question: must not be empty"),
        (line(id="one"), "id: must be unique, is 'one' a second time"),
        (line(question="\ud800"), "question: must be valid Unicode"),
    ],
)
def test_malformed_lines_are_named_by_number(tmp_path: Path, bad: str, problem: str) -> None:
    path = write(tmp_path / "data.jsonl", line(id="one"), bad, line(id="two"))
    with pytest.raises(ConfigError, match="line 2") as error:
        read_labelled(path)
    assert problem in str(error.value)
    skipped = read_labelled(path, skip_bad=True)
    assert [question.id for question in skipped.questions] == ["one", "two"]
    assert [one.number for one in skipped.bad_lines] == [2]


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_labelled(write(tmp_path / "data.jsonl", ""))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_labelled(tmp_path / "missing.jsonl")


def test_letters_are_compared_as_letters_and_texts_after_normalizing() -> None:
    letter = LabelledQuestion("1", QUESTION, "B")
    assert letter.is_right("B) 5", "B")
    assert not letter.is_right("B", None)
    text = LabelledQuestion("1", "Who wrote it?", "The Beatles")
    assert text.is_right("beatles!", None)
    assert not text.is_right("a beetle", None)


def test_normalizing_is_squads() -> None:
    """By hand from SQuAD's evaluation: lower, no punctuation, no articles, single spaces."""
    assert normalized("  The  U.S.A., an   island ") == "usa island"


@pytest.mark.parametrize(
    ("cloud", "right"),
    [("B", True), ("The answer is B.", True), ("It is A.", False), ("no idea", False)],
)
def test_a_clouds_text_is_judged_by_the_letter_it_states(cloud: str, right: bool) -> None:
    assert LabelledQuestion("1", QUESTION, "B", cloud_answer=cloud).cloud_is_right is right


def test_a_clouds_thoughts_are_not_judged() -> None:
    question = LabelledQuestion("1", "Which?\nA) 1\nB) 2", "B")
    assert question.judge_text("<think>The answer is A? No.</think>It is B")
    assert not question.judge_text("<think>The answer is B")
    assert LabelledQuestion("1", "Where?", "Paris").judge_text("<think>Rome?</think>\nParis.")


def test_a_stated_verdict_on_the_cloud_wins() -> None:
    question = LabelledQuestion("1", QUESTION, "B", cloud_answer="A", cloud_correct=True)
    assert question.cloud_is_right is True
    assert LabelledQuestion("1", QUESTION, "B").cloud_is_right is None
