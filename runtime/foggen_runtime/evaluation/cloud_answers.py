"""What a cloud answers to recorded questions, from a file of its own.

JSON Lines: `id`, and `cloud_answer` or `cloud_correct`, as in a data file.
"""

from dataclasses import dataclass
from pathlib import Path

from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.grading import cloud_is_right
from foggen_runtime.jsonio import json_lines
from foggen_runtime.text.questions import Question


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
        return cloud_is_right(
            Question(
                name,
                name,
                answer,
                cloud_answer=reply.cloud_answer,
                cloud_correct=reply.cloud_correct,
            )
        )

    @classmethod
    def read(cls, path: Path) -> "CloudAnswers":
        """Read a file; empty lines and fields of other names are passed over.

        Raises:
            ConfigError: It cannot be read, or a line is not as it must be.
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
        return cls(replies)
