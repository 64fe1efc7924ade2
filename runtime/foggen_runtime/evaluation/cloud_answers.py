"""What a cloud answers to recorded questions, from a file of its own.

JSON Lines: `id`, and `cloud_answer` or `cloud_correct`, as in a data file.
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.grading import LabelledQuestion
from foggen_runtime.jsonio import FieldError, from_json


@dataclass(frozen=True)
class CloudReply:
    """One line of the file."""

    id: str
    cloud_answer: str | None = None
    cloud_correct: bool | None = None

    def __post_init__(self) -> None:
        if self.cloud_answer is None and self.cloud_correct is None:
            raise ValueError("cloud_answer: must be given where cloud_correct is not")


@dataclass(frozen=True)
class CloudAnswers:
    """Replies by the questions' ids."""

    replies: dict[str, CloudReply]

    def is_right(self, name: str, answer: str) -> bool | None:
        """Whether the cloud is right on a question; None where it was not asked.

        Args:
            name: The question's id.
            answer: The right answer.
        """
        reply = self.replies.get(name)
        if reply is None:
            return None
        question = LabelledQuestion(name, name, answer, None, reply.cloud_answer)
        return question.cloud_is_right if reply.cloud_correct is None else reply.cloud_correct

    @classmethod
    def read(cls, path: Path) -> "CloudAnswers":
        """Read a file; empty lines and fields of other names are passed over.

        Raises:
            ConfigError: It cannot be read, or a line is not as it must be.
        """
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from error
        replies = [
            _reply(line, f"{path}:{number}")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
        return cls({reply.id: reply for reply in replies})


def _reply(line: str, where: str) -> CloudReply:
    known = {field.name for field in fields(CloudReply)}
    try:
        document = json.loads(line)
        if isinstance(document, dict):
            document = {name: value for name, value in document.items() if name in known}
        return from_json(CloudReply, document, where)
    except FieldError as error:
        raise ConfigError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: must be a JSON object: {error}") from error
