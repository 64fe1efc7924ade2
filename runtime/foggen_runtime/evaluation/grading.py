"""Questions whose right answer is known: JSON Lines, one object on each line.

An answer that is one letter from A to Z is that of a multiple-choice question, and right if the
reply's option letter is the same. Any other answer is right if the reply's text is the same after
`normalized`.
"""

import json
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

from foggen_runtime.cloud.quoting import is_text
from foggen_runtime.cloud.thoughts import without_thoughts
from foggen_runtime.errors import ConfigError
from foggen_runtime.jsonio import FieldError, from_json
from foggen_runtime.text.choice import parse_choice, question_options

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class LabelledQuestion:
    """One question with its right answer.

    Attributes:
        id: How the file calls it; the line's number where it does not.
        question: The text as a user would type it, with its options.
        answer: The letter of the right option, or the right text.
        domain: What it is about, for figures by domain.
        cloud_answer: What the cloud answers, if that is known.
        cloud_correct: Whether the cloud's answer is right; taken from `cloud_answer` where only
            that is known.
    """

    id: str
    question: str
    answer: str
    domain: str | None = None
    cloud_answer: str | None = None
    cloud_correct: bool | None = None

    def __post_init__(self) -> None:
        for name in ("id", "question", "answer"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name}: must not be empty, is {getattr(self, name)!r}")
        for name in ("id", "question", "answer", "domain", "cloud_answer"):
            if not is_text(getattr(self, name) or ""):
                raise ValueError(f"{name}: must be valid Unicode, is {getattr(self, name)!a}")

    @property
    def cloud_is_right(self) -> bool | None:
        """Whether the cloud answers rightly; None where it is not known."""
        if self.cloud_correct is not None or self.cloud_answer is None:
            return self.cloud_correct
        return self.judge_text(self.cloud_answer)

    def judge_text(self, text: str) -> bool:
        """Judge a reply whose option letter was not looked for yet, thoughts put aside."""
        text = without_thoughts(text)
        return self.is_right(text, parse_choice(text, question_options(self.question)))

    def is_right(self, text: str | None, choice: str | None) -> bool:
        """Judge a reply.

        Args:
            text: The reply.
            choice: The option letter in it, if it has one.
        """
        if is_letter(self.answer):
            return choice == self.answer
        return text is not None and normalized(text) == normalized(self.answer)


@dataclass(frozen=True)
class BadLine:
    """A line that is no labelled question, and why."""

    number: int
    problem: str


@dataclass(frozen=True)
class LabelledFile:
    """A data file as read.

    Attributes:
        questions: In the order of the file.
        bad_lines: The lines that were no questions.
        sha256: Hash of the whole file.
    """

    questions: tuple[LabelledQuestion, ...]
    bad_lines: tuple[BadLine, ...]
    sha256: str


def read_labelled(path: Path, *, skip_bad: bool = False) -> LabelledFile:
    """Read a data file; empty lines and fields of other names are passed over.

    Args:
        path: The file.
        skip_bad: Whether to leave out malformed lines instead of refusing the file.

    Raises:
        ConfigError: The file cannot be read, holds no question, has a malformed line (each is
            named by its number), or gives two questions one id.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: must be UTF-8, is not at byte {error.start}") from error
    questions: dict[str, LabelledQuestion] = {}
    bad: list[BadLine] = []
    for number, outcome in _lines(text):
        if isinstance(outcome, str):
            bad.append(BadLine(number, outcome))
        elif outcome.id in questions:
            bad.append(BadLine(number, f"id: must be unique, is {outcome.id!r} a second time"))
        else:
            questions[outcome.id] = outcome
    if bad and not skip_bad:
        listed = "\n".join(f"  line {line.number}: {line.problem}" for line in bad[:20])
        more = f"\n  and {len(bad) - 20} more" if len(bad) > 20 else ""
        raise ConfigError(f"{path}: {len(bad)} malformed lines:\n{listed}{more}")
    if not questions:
        raise ConfigError(f"{path}: must hold at least one question, holds none")
    return LabelledFile(tuple(questions.values()), tuple(bad), sha256(data).hexdigest())


def is_letter(text: str) -> bool:
    """Whether an answer is the letter of an option."""
    return len(text) == 1 and "A" <= text <= "Z"


def normalized(text: str) -> str:
    """Return what is compared of a free answer: lower case, no punctuation, articles or gaps.

    As SQuAD's official evaluation does (Rajpurkar et al., arXiv 1606.05250).
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _lines(text: str) -> Iterator[tuple[int, LabelledQuestion | str]]:
    """Yield each line's number with its question, or with what is wrong with it."""
    known = {field.name for field in fields(LabelledQuestion)}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"must be a JSON object: {error}"
            continue
        if isinstance(document, dict):
            document = {name: value for name, value in document.items() if name in known}
            document.setdefault("id", str(number))
        try:
            yield number, from_json(LabelledQuestion, document, "")
        except FieldError as error:
            yield number, str(error).lstrip(": ")
