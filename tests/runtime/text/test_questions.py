"""Question files, well-formed and not."""

from pathlib import Path

import pytest

from foggen_runtime.errors import ConfigError
from foggen_runtime.text.questions import Question, read_questions
from tests.conftest import TINY


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "questions.jsonl"


def test_the_held_out_questions_are_read() -> None:
    questions = read_questions(TINY / "heldout.jsonl")
    assert len(questions) == 1200
    first = questions[0]
    assert first.id
    assert first.domain
    assert f"\n{first.answer}) " in first.question


def test_only_the_question_is_needed_and_other_fields_are_passed_over(file: Path) -> None:
    file.write_text('{"question": "Why?", "options": {"A": 1}, "cloud_answer": 7}\n')
    assert read_questions(file) == (Question("Why?"),)


def test_null_is_as_good_as_missing(file: Path) -> None:
    file.write_text('{"question": "Why?", "id": null, "domain": null, "answer": null}')
    assert read_questions(file) == (Question("Why?"),)


def test_lines_end_where_json_lines_end(file: Path) -> None:
    text = '\ufeff{"question": "one\u2028two\x85three"}\r\n\r\n  \n{"question": "four"}'
    file.write_bytes(text.encode())
    assert [q.question for q in read_questions(file)] == ["one\u2028two\x85three", "four"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "must be a JSON object, is {: "),
        ("[1]", "must be an object, is [1]"),
        ("{}", "field 'question' is missing"),
        ('{"question": 7}', "question: must be a string, is 7"),
        ('{"question": " \\n"}', "question: must not be empty, is ' \\n'"),
        ('{"question": "\\ud800"}', "question: must be valid Unicode, is '\\ud800'"),
        ('{"question": "Why?", "domain": "\\udfff"}', "domain: must be valid Unicode"),
        ('{"question": "Why?", "id": 7}', "id: must be a string, is 7"),
        ('{"question": "Why?", "answer": "b"}', "answer: must be a letter from A to Z, is 'b'"),
        ('{"question": "Why?", "answer": "AB"}', "answer: must be a letter from A to Z, is 'AB'"),
        ('{"question": "Why?", "answer": ""}', "answer: must be a letter from A to Z, is ''"),
        ("[" * 100_000, "must be a JSON object, is [[["),
    ],
)
def test_a_wrong_line_is_named_with_its_rule_and_value(file: Path, line: str, message: str) -> None:
    file.write_text('{"question": "Why?"}\n\n' + line + "\n")
    with pytest.raises(ConfigError) as raised:
        read_questions(file)
    assert str(raised.value).startswith(f"{file}:3: ")
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
