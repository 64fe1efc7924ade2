"""Question files: JSON Lines, one object with a `question` on each line."""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from foggen_runtime.errors import ConfigError
from foggen_runtime.jsonio import json_lines
from foggen_runtime.wording import counted

_LISTED = 20  # malformed lines that a message names


@dataclass(frozen=True)
class Question:
    """One question of a file.

    Attributes:
        id: How the file calls it; the line's number where it does not.
        question: The text as a user would type it, with its options.
        answer: The letter of the right option, or the right text, where it is known.
        domain: What it is about, for figures by domain.
        cloud_answer: What the cloud answers, if that is known.
        cloud_correct: Whether the cloud's answer is right; taken from `cloud_answer` where only
            that is known.
    """

    id: str
    question: str
    answer: str | None = None
    domain: str | None = None
    cloud_answer: str | None = None
    cloud_correct: bool | None = None

    def __post_init__(self) -> None:
        for name in ("id", "question", "answer"):
            text = getattr(self, name)
            if text is not None and not text.strip():
                raise ValueError(f"{name}: must not be empty, is {text!r}")


@dataclass(frozen=True)
class BadLine:
    """A line that is no question, and why."""

    number: int
    problem: str


@dataclass(frozen=True)
class QuestionFile:
    """A question file as read.

    Attributes:
        questions: In the order of the file.
        bad_lines: The lines that were no questions.
        sha256: Hash of the whole file.
    """

    questions: tuple[Question, ...]
    bad_lines: tuple[BadLine, ...]
    sha256: str


def read_questions(path: Path, *, labelled: bool = False, skip_bad: bool = False) -> QuestionFile:
    """Read a question file; empty lines and fields of other names are passed over.

    Args:
        path: The file.
        labelled: Whether every question must have its answer, and an id that no other has.
        skip_bad: Whether to leave out malformed lines instead of refusing the file.

    Raises:
        ConfigError: The file cannot be read, holds no question, or has a malformed line (each is
            named by its number).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_questions(data, str(path), labelled=labelled, skip_bad=skip_bad)


def shipped_questions(package: str, name: str) -> tuple[Question, ...]:
    """Return the questions of a file that ships within a package."""
    return parse_questions(files(package).joinpath(name).read_bytes(), name).questions


def judging_questions() -> tuple[Question, ...]:
    """Return the questions that ship to judge bundles by; those that calibrate are others."""
    return shipped_questions("foggen_runtime.text", "judging_questions.jsonl")


def parse_questions(
    data: bytes, where: str, *, labelled: bool = False, skip_bad: bool = False
) -> QuestionFile:
    """Read the content of a question file, as `read_questions` does.

    Args:
        data: The content.
        where: How errors call it.
        labelled: As there.
        skip_bad: As there.

    Raises:
        ConfigError: As there.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: must be UTF-8, is not at byte {error.start}") from error
    questions: list[Question] = []
    bad: list[BadLine] = []
    ids: set[str] = set()
    for number, outcome in json_lines(Question, text, numbered="id"):
        if isinstance(outcome, str):
            bad.append(BadLine(number, outcome))
        elif labelled and (problem := _unlabelled(outcome, ids)):
            bad.append(BadLine(number, problem))
        else:
            questions.append(outcome)
            ids.add(outcome.id)
    if bad and not skip_bad:
        listed = "".join(f"\n  line {line.number}: {line.problem}" for line in bad[:_LISTED])
        more = f"\n  and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        raise ConfigError(f"{where}: {counted(len(bad), 'malformed line')}:{listed}{more}")
    if not questions:
        raise ConfigError(f"{where}: must hold at least one question, holds none")
    return QuestionFile(tuple(questions), tuple(bad), sha256(data).hexdigest())


def _unlabelled(question: Question, ids: set[str]) -> str:
    """Say what a labelled question must have and this one lacks; nothing if it is one."""
    if question.answer is None:
        return "field 'answer' is missing"
    if question.id in ids:
        return f"id: must be unique, is {question.id!r} a second time"
    return ""
