"""Reading a question file: JSON Lines, one object with a `question` on each line."""

import json
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path

from foggen_runtime.errors import ConfigError
from foggen_runtime.jsonio import FieldError, from_json

_JUDGING = "judging_questions.jsonl"


@dataclass(frozen=True)
class Question:
    """One question of a file.

    Attributes:
        question: The text as a user would type it, with its options.
        id: How the file calls it.
        domain: What it is about, for figures by domain.
        answer: The letter of the right option, where it is known.
    """

    question: str
    id: str | None = None
    domain: str | None = None
    answer: str | None = None

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise ValueError(f"question: must not be empty, is {self.question!r}")
        for name in ("question", "id", "domain"):
            if not _is_unicode(getattr(self, name) or ""):
                raise ValueError(f"{name}: must be valid Unicode, is {getattr(self, name)!a}")
        if self.answer is not None and not _is_letter(self.answer):
            raise ValueError(f"answer: must be a letter from A to Z, is {self.answer!r}")


def read_questions(path: Path) -> tuple[Question, ...]:
    """Read a question file; empty lines and fields of other names are passed over.

    Raises:
        ConfigError: It cannot be read, holds no question, or a line is not as it must be.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: must be UTF-8, is not at byte {error.start}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_questions(text, str(path))


def parse_questions(text: str, where: str) -> tuple[Question, ...]:
    """Read the content of a question file, as `read_questions` does.

    Args:
        text: The content.
        where: How errors call it.

    Raises:
        ConfigError: It holds no question, or a line is not as it must be.
    """
    lines = enumerate(text.split("\n"), start=1)  # a JSON string may hold other line breaks
    questions = tuple(_read(line, f"{where}:{number}") for number, line in lines if line.strip())
    if not questions:
        raise ConfigError(f"{where}: must hold at least one question, holds none")
    return questions


def judging_questions() -> tuple[Question, ...]:
    """Return the questions that ship to judge bundles by; those that calibrate are others."""
    text = files(__package__).joinpath(_JUDGING).read_text(encoding="utf-8")
    return parse_questions(text, _JUDGING)


def _read(line: str, where: str) -> Question:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: must be a JSON object, is {_short(line)}: {error}") from error
    if isinstance(document, dict):
        known = {field.name for field in fields(Question)}
        document = {name: value for name, value in document.items() if name in known}
    try:
        return from_json(Question, document, where)
    except FieldError as error:
        raise ConfigError(str(error)) from error


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_letter(text: str) -> bool:
    return len(text) == 1 and "A" <= text <= "Z"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
