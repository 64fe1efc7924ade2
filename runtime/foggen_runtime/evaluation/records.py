"""Record files: what a bundle said to each labelled question, to be replayed at any threshold.

JSON Lines: a header that says what was run on what, then one record for each question in the order
of the data. If a file ends in the middle of a line, the run was interrupted, and another run
continues it.
"""

import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.grading import cloud_is_right, is_right
from foggen_runtime.jsonio import dumps
from foggen_runtime.result import Result, Timing
from foggen_runtime.text.questions import Question

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Header:
    """What was run on what.

    Attributes:
        bundle: The bundle's name.
        bundle_sha256: Its hash.
        recipe: Its quantization.
        levels: The confidence levels.
        data_sha256: Hash of the data file.
        decoding: The decoding mode.
        cloud: The cloud model that was asked if the data had no cloud answer.
    """

    bundle: str
    bundle_sha256: str
    recipe: str
    levels: tuple[float, ...]
    data_sha256: str
    decoding: str = "constrained"
    cloud: str | None = None
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Tokens:
    """Tokens of the prompt, and tokens decoded."""

    prompt: int
    decoded: int


@dataclass(frozen=True)
class Record:
    """What the bundle said to one question, answered locally whatever the confidence.

    Attributes:
        id: The question's.
        domain: The question's.
        answer: The right answer; None if unknown, which only `foggen compare` allows.
        local_answer: The bundle's answer; None where there is none.
        local_choice: The option letter in it.
        local_correct: Whether it is right; None if unknown.
        cloud_answer: The cloud's answer, if known.
        cloud_correct: Whether it is right; None if unknown.
        confidence: The verbalized level; None when the output was malformed, which defers at any
            threshold.
        expected_confidence: Probability-weighted mean of the levels.
        level_probabilities: One for each level of the header.
        tokens: Tokens of prompt and output.
        timing_ms: Milliseconds by phase.
    """

    id: str
    domain: str | None
    answer: str | None
    local_answer: str | None
    local_choice: str | None
    local_correct: bool | None
    cloud_answer: str | None
    cloud_correct: bool | None
    confidence: float | None
    expected_confidence: float | None
    level_probabilities: tuple[float, ...] | None
    tokens: Tokens
    timing_ms: Timing = field(default_factory=Timing)

    @classmethod
    def of(cls, question: Question, result: Result) -> Self:
        """Judge a result of the route `local_only`."""
        malformed = result.reason in ("malformed", "context_length")
        return cls(
            id=question.id,
            domain=question.domain,
            answer=question.answer,
            local_answer=result.answer,
            local_choice=result.choice,
            local_correct=is_right(question, result.answer, result.choice),
            cloud_answer=question.cloud_answer,
            cloud_correct=cloud_is_right(question),
            confidence=None if malformed else result.confidence,
            expected_confidence=None if malformed else result.expected_confidence,
            level_probabilities=result.level_probabilities,
            tokens=Tokens(result.usage.prompt_tokens, result.usage.decoded_tokens),
            timing_ms=result.timing_ms,
        )


class RecordWriter:
    """Appends records to a file; a context manager.

    Attributes:
        written: The ids that the file already held.
        count: How many records it holds.
    """

    def __init__(self, path: Path, header: Header) -> None:
        """Open a new file, or continue one with the same header.

        Raises:
            ConfigError: The file is of another bundle or other data, is being written by another
                process, or cannot be written.
        """
        self._path = path
        self.written: tuple[str, ...] = ()
        self.count = 0
        text = dumps(header) + "\n"
        try:
            self._file: BinaryIO = path.open("a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ConfigError(f"{path}: is being written by another process") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error}") from error
        whole = self._whole_lines(text)
        if whole is None:
            self._file.close()
            raise ConfigError(
                f"{path}: must hold records of the same bundle, data and decoding, does not; "
                "name another file, or remove this one"
            )
        if not whole:
            self._append(text)
            return
        try:
            self.written = tuple(json.loads(line)["id"] for line in whole[1:])
        except (ValueError, KeyError, TypeError) as error:
            self._file.close()
            raise ConfigError(f"{path}: has a line that is not a record: {error}") from error
        self.count = len(self.written)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    def append(self, record: Record) -> None:
        """Write a record; when this returns, it survives this process."""
        self._append(dumps(record) + "\n")
        self.count += 1

    def _append(self, text: str) -> None:
        self._file.write(text.encode())
        self._file.flush()

    def _whole_lines(self, header: str) -> list[str] | None:
        """Remove what follows the last line break, and return the whole lines.

        If the file does not begin with the header, remove nothing and return None.
        """
        self._file.seek(0)
        data = self._file.read()
        expected = header.encode()
        if data[: len(expected)] != expected[: len(data)]:
            return None
        end = data.rfind(b"\n") + 1
        self._file.truncate(end)
        return data[:end].decode().split("\n")[:-1]
