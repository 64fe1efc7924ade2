"""Question files: JSON Lines, one object with a `question` on each line."""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from foggen_runtime.errors import ConfigError
from foggen_runtime.jsonio import json_lines
from foggen_runtime.wording import counted

_LISTED = 20  # at most this many malformed lines are listed in a message


@dataclass(frozen=True)
class Question:
    """One question of a file.

    Attributes:
        id: The file's name for it; without one, the line's number.
        question: The text as a user would type it, with its options.
        answer: The letter of the right option, or the right text, if known.
        domain: The subject, for figures by domain.
        cloud_answer: What the cloud answers, if known.
        cloud_correct: Whether the cloud's answer is right; judged from `cloud_answer` if not given.
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
    """A line that is not a question, and why."""

    number: int
    problem: str


@dataclass(frozen=True)
class QuestionFile:
    """A question file as read.

    Attributes:
        questions: In the order of the file.
        bad_lines: The lines that were not questions.
        sha256: Hash of the whole file.
    """

    questions: tuple[Question, ...]
    bad_lines: tuple[BadLine, ...]
    sha256: str


def read_questions(path: Path, *, labelled: bool = False, skip_bad: bool = False) -> QuestionFile:
    """Read a question file; empty lines and other fields are ignored.

    Args:
        path: The file.
        labelled: Whether every question must have an answer and a unique id.
        skip_bad: Whether to leave out malformed lines instead of refusing the file.

    Raises:
        ConfigError: The file cannot be read, holds no question, or has malformed lines; their
            numbers are in the message.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse_questions(data, str(path), labelled=labelled, skip_bad=skip_bad)


def shipped_questions(package: str, name: str) -> tuple[Question, ...]:
    """Return the questions of a file that ships with a package."""
    return parse_questions(files(package).joinpath(name).read_bytes(), name).questions


def judging_questions() -> tuple[Question, ...]:
    """Return the built-in questions to judge bundles with; other ones are for calibrating."""
    return shipped_questions("foggen_runtime.text", "judging_questions.jsonl")


def parse_questions(
    data: bytes, where: str, *, labelled: bool = False, skip_bad: bool = False
) -> QuestionFile:
    """Read the content of a question file, as `read_questions` does.

    Args:
        data: The content.
        where: What errors call it.
        labelled: As in `read_questions`.
        skip_bad: As in `read_questions`.

    Raises:
        ConfigError: As in `read_questions`.
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
    """Say what a question lacks to count as labelled; empty if nothing."""
    if question.answer is None:
        return "field 'answer' is missing"
    if question.id in ids:
        return f"id: must be unique, {question.id!r} occurs twice"
    return ""
