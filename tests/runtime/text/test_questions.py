"""Question files, well-formed and not."""

import json
from pathlib import Path
from typing import Any

import pytest

from foggen_runtime.errors import ConfigError
from foggen_runtime.text.questions import Question, read_questions
from tests.conftest import TINY


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "questions.jsonl"


def test_the_held_out_questions_are_read() -> None:
    questions = read_questions(TINY / "heldout.jsonl").questions
    assert len(questions) == 1200
    first = questions[0]
    assert first.id
    assert first.domain
    assert f"\n{first.answer}) " in first.question


def test_only_the_question_is_needed_and_other_fields_are_passed_over(file: Path) -> None:
    file.write_text('\n{"question": "Why?", "options": {"A": 1}, "cloud": 7}\n')
    assert read_questions(file).questions == (Question("2", "Why?"),)


def test_null_is_as_good_as_missing(file: Path) -> None:
    file.write_text('{"question": "Why?", "id": null, "domain": null, "answer": null}')
    assert read_questions(file).questions == (Question("1", "Why?"),)


def test_lines_end_where_json_lines_end(file: Path) -> None:
    text = '\ufeff{"question": "one\u2028two\x85three"}\r\n\r\n  \n{"question": "four"}'
    file.write_bytes(text.encode())
    assert [q.question for q in read_questions(file).questions] == ["one\u2028two\x85three", "four"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", 'must be a JSON object, is "{": '),
        ("[1]", "must be an object, is [1]"),
        ("{}", "field 'question' is missing"),
        ('{"question": 7}', "question: must be a string, is 7"),
        ('{"question": " \\n"}', "question: must not be empty, is ' \\n'"),
        ('{"question": "\\ud800"}', "question: must be valid Unicode, is '\\ud800'"),
        ('{"question": "Why?", "domain": "\\udfff"}', "domain: must be valid Unicode"),
        ('{"question": "Why?", "id": 7}', "id: must be a string, is 7"),
        ('{"question": "Why?", "answer": ""}', "answer: must not be empty, is ''"),
        ('{"question": "Why?", "cloud_correct": 1}', "cloud_correct: must be true or false, is 1"),
        ("[" * 100_000, 'must be a JSON object, is "[[['),
    ],
)
def test_a_wrong_line_is_named_with_its_rule_and_value(file: Path, line: str, message: str) -> None:
    file.write_text('{"question": "Why?"}\n\n' + line + "\n")
    with pytest.raises(ConfigError) as raised:
        read_questions(file)
    assert str(raised.value).startswith(f"{file}: 1 malformed line:\n  line 3: ")
    assert message in str(raised.value)


def test_a_file_without_questions_is_refused(file: Path) -> None:
    file.write_text("\n \n")
    with pytest.raises(ConfigError, match="must hold at least one question, holds none"):
        read_questions(file)


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"questions\.jsonl: cannot be read: "):
        read_questions(file)


def test_text_of_another_encoding_is_refused(file: Path) -> None:
    file.write_bytes('{"question": "Où?"}'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"questions\.jsonl: must be UTF-8, is not at byte 15"):
        read_questions(file)


QUESTION = "Which is larger?\nA) 3\nB) 5"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def line(**fields: Any) -> str:
    return json.dumps({"question": QUESTION, "answer": "B", **fields})


def test_questions_come_in_order_with_line_numbers_for_missing_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", line(id="x"), "", line(domain="math", other=1))
    first, second = read_questions(path, labelled=True).questions
    assert (first.id, second.id, second.domain) == ("x", "3", "math")


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ('{"question": ', "must be a JSON object"),
        ("[]", "must be an object"),
        (json.dumps({"question": QUESTION}), "field 'answer' is missing"),
        (line(answer=1), "answer: must be a string, is 1"),
        (line(question=" "), "question: must not be empty"),
        (line(id="one"), "id: must be unique, 'one' occurs twice"),
        (line(question="\ud800"), "question: must be valid Unicode"),
    ],
)
def test_malformed_lines_are_named_by_number(tmp_path: Path, bad: str, problem: str) -> None:
    path = write(tmp_path / "data.jsonl", line(id="one"), bad, line(id="two"))
    with pytest.raises(ConfigError, match="line 2") as error:
        read_questions(path, labelled=True)
    assert problem in str(error.value)
    skipped = read_questions(path, labelled=True, skip_bad=True)
    assert [question.id for question in skipped.questions] == ["one", "two"]
    assert [one.number for one in skipped.bad_lines] == [2]


def test_questions_of_one_id_are_no_mistake_where_none_is_labelled(file: Path) -> None:
    write(file, line(id="one"), line(id="one"), json.dumps({"question": QUESTION, "id": "one"}))
    assert [question.id for question in read_questions(file).questions] == ["one"] * 3


def test_no_more_than_twenty_malformed_lines_are_listed(file: Path) -> None:
    write(file, *["{"] * 23)
    with pytest.raises(ConfigError) as raised:
        read_questions(file)
    assert "23 malformed lines:\n  line 1: " in str(raised.value)
    assert str(raised.value).endswith("\n  and 3 more")
