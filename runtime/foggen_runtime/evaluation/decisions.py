"""Recorded decisions as arrays, one element for each question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from foggen_runtime.bundle.manifest import ConfidenceKind
from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.grading import cloud_is_right
from foggen_runtime.evaluation.records import SCHEMA_VERSION, Header
from foggen_runtime.jsonio import FieldError, from_json, json_lines, parse_json
from foggen_runtime.statistics.arrays import Bool, Float64, Int64
from foggen_runtime.text.questions import Question

_FIELDS: Mapping[ConfidenceKind, str] = {
    "verbalized": "confidence",
    "expected": "expected_confidence",
}


@dataclass(frozen=True)
class CloudReply:
    """What another cloud answers to a recorded question, as in a question file."""

    id: str
    cloud_answer: str | None = None
    cloud_correct: bool | None = None

    def __post_init__(self) -> None:
        if self.cloud_answer is None and self.cloud_correct is None:
            raise ValueError("cloud_answer: must be given if cloud_correct is not")


@dataclass(frozen=True)
class Decisions:
    """What was recorded, without texts.

    Attributes:
        header: What was run on what.
        ids: The questions' ids.
        domains: The questions' domains, None where they have none.
        verbalized: The stated confidence; minus infinity where the output was malformed.
        expected: The probability-weighted confidence; minus infinity likewise.
        local_correct: Whether the local answer is right.
        cloud_correct: 1 where the cloud's is right, 0 where not, not-a-number where unknown.
        prompt_tokens: Tokens of the prompt.
        decoded_tokens: Tokens of the local output.
    """

    header: Header
    ids: tuple[str, ...]
    domains: tuple[str | None, ...]
    verbalized: Float64
    expected: Float64
    local_correct: Bool
    cloud_correct: Float64
    prompt_tokens: Int64
    decoded_tokens: Int64

    def __len__(self) -> int:
        """Return how many questions there are."""
        return len(self.ids)

    def confidence(self, kind: ConfidenceKind) -> Float64:
        """Return the confidence that a threshold is compared with."""
        return self.verbalized if kind == "verbalized" else self.expected

    @property
    def knows_cloud(self) -> bool:
        """Whether the cloud's correctness is known for every question."""
        return not np.isnan(self.cloud_correct).any()

    def only(self, chosen: Bool | Int64) -> Self:
        """Return some of the questions."""
        indices = np.arange(len(self))[chosen]
        return type(self)(
            self.header,
            tuple(self.ids[i] for i in indices),
            tuple(self.domains[i] for i in indices),
            self.verbalized[chosen],
            self.expected[chosen],
            self.local_correct[chosen],
            self.cloud_correct[chosen],
            self.prompt_tokens[chosen],
            self.decoded_tokens[chosen],
        )

    @classmethod
    def read(cls, path: Path, cloud: Mapping[str, CloudReply] | None = None) -> Self:
        """Read a record file.

        Args:
            path: The file.
            cloud: What another cloud answers, by the questions' ids; it replaces what was recorded
                of the cloud.

        Raises:
            ConfigError: It cannot be read, is of a newer version, holds no record or has a wrong
                line; or the other cloud answers none of its questions.
        """
        header, rows = _read_lines(path)
        try:
            return cls(
                header,
                ids=tuple(row["id"] for row in rows),
                domains=tuple(row["domain"] for row in rows),
                verbalized=_confidences(rows, "verbalized"),
                expected=_confidences(rows, "expected"),
                local_correct=np.array([row["local_correct"] for row in rows], np.bool_),
                cloud_correct=np.array([_share(verdict) for verdict in _verdicts(rows, cloud)]),
                prompt_tokens=np.array([row["tokens"]["prompt"] for row in rows], np.int64),
                decoded_tokens=np.array([row["tokens"]["decoded"] for row in rows], np.int64),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{path}: a record lacks a field or has a wrong one: {error}"
            ) from error


def read_cloud_replies(path: Path) -> dict[str, CloudReply]:
    """Read another cloud's answers; empty lines and other fields are ignored.

    Raises:
        ConfigError: The file cannot be read, or has a wrong line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    replies: dict[str, CloudReply] = {}
    for number, reply in json_lines(CloudReply, text):
        if isinstance(reply, str):
            raise ConfigError(f"{path}:{number}: {reply}")
        replies[reply.id] = reply
    return replies


def _read_lines(path: Path) -> tuple[Header, list[dict[str, Any]]]:
    try:
        # Only "\n", as JSON strings may hold other line breaks; what follows the last one is
        # incomplete.
        first, *lines = path.read_text(encoding="utf-8-sig").split("\n")
        header = from_json(Header, parse_json(first), f"{path}:1")
        rows: list[dict[str, Any]] = parse_json(f"[{','.join(lines[:-1])}]")
    except (OSError, ValueError, FieldError) as error:
        raise ConfigError(f"{path}: is not a record file: {error}") from error
    if header.schema_version > SCHEMA_VERSION:
        raise ConfigError(
            f"{path}: schema_version: must be at most {SCHEMA_VERSION}, is {header.schema_version}"
        )
    if not rows:
        raise ConfigError(f"{path}: must hold at least one record, holds none")
    return header, rows


def _confidences(rows: Sequence[Mapping[str, Any]], kind: ConfidenceKind) -> Float64:
    values = (row[_FIELDS[kind]] for row in rows)
    return np.array([-np.inf if value is None else value for value in values], np.float64)


def _verdicts(
    rows: Sequence[Mapping[str, Any]], cloud: Mapping[str, CloudReply] | None
) -> list[bool | None]:
    if cloud is None:
        return [row["cloud_correct"] for row in rows]
    verdicts = [_verdict(row, cloud.get(row["id"])) for row in rows]
    if all(verdict is None for verdict in verdicts):
        raise ConfigError("cloud_answers: must answer at least one recorded question, answer none")
    return verdicts


def _verdict(row: Mapping[str, Any], reply: CloudReply | None) -> bool | None:
    if reply is None:
        return None
    # Records do not hold the questions, so a letter is looked for without knowing the options.
    asked = Question(row["id"], row["id"], row["answer"], cloud_answer=reply.cloud_answer)
    return cloud_is_right(replace(asked, cloud_correct=reply.cloud_correct))


def _share(value: bool | None) -> float:
    return np.nan if value is None else float(value)
