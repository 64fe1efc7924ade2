"""Clouds within the process: they answer, fail and count as they are told."""

from collections.abc import Callable, Iterator

from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.errors import HandoffError


class FakeCloud:
    """Answers as `CloudClient` would.

    Attributes:
        answer: Gives the text for a message, or the whole answer, or raises.
        asked: The messages and keys, in order.
        warmed: How often it was told to connect.
    """

    def __init__(self, answer: Callable[[str], str | CloudAnswer] = str.upper) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str | None]] = []
        self.warmed = 0
        self.counts: tuple[int | None, int | None] = (3, 4)

    def complete(
        self,
        question: str,
        *,
        idempotency_key: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> CloudAnswer:
        self.asked.append((question, idempotency_key))
        text = self.answer(question)
        if isinstance(text, CloudAnswer):
            return text
        return CloudAnswer(text, "stop", *self.counts, endpoint="http://cloud/v1", model="big")

    def stream(
        self,
        question: str,
        *,
        idempotency_key: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> Iterator[str | CloudAnswer]:
        answer = self.complete(question, idempotency_key=idempotency_key)
        yield from answer.text
        yield answer

    def warm(self) -> None:
        self.warmed += 1

    def close(self) -> None:
        pass


def failing(error: HandoffError, times: int = 1 << 30) -> Callable[[str], str]:
    """Return an `answer` that fails so many times, then answers."""
    left = [times]

    def answer(message: str) -> str:
        if left[0] > 0:
            left[0] -= 1
            raise error
        return message.upper()

    return answer
