"""Handing a question to the cloud within the policy: rules, redaction and budget come first."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.cloud.thoughts import without_thoughts
from foggen_runtime.errors import HandoffError, StateError
from foggen_runtime.handoff.policy import Policy
from foggen_runtime.result import CloudRef, Result

if TYPE_CHECKING:
    from foggen_runtime.handoff.budget import DailyBudget

# A server that does not count tokens is charged one for so many bytes of UTF-8.
_BYTES_PER_TOKEN = 4


class Client(Protocol):
    """What asks a cloud; `CloudClient` does."""

    def complete(
        self,
        question: str,
        *,
        idempotency_key: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> CloudAnswer:
        """Ask, and wait for the whole answer."""

    def stream(
        self,
        question: str,
        *,
        idempotency_key: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> Iterator[str | CloudAnswer]:
        """Ask, and yield the answer's text piece by piece, the whole at last."""

    def warm(self) -> None:
        """Begin to connect."""

    def close(self) -> None:
        """Close what is open."""


class Handoff:
    """Hands questions to the cloud within a policy."""

    def __init__(self, client: Client, policy: Policy, budget: "DailyBudget | None" = None) -> None:
        self._client = client
        self._policy = policy
        self._budget = budget

    def close(self) -> None:
        """Close the connection and the budget's file."""
        self._client.close()
        if self._budget:
            self._budget.close()

    def warm(self, question: str) -> None:
        """Begin to connect, unless the question would not be sent anyway."""
        if not self._policy.warm:
            return
        with suppress(HandoffError):
            self._policy.redacted(question)
            self._client.warm()

    def complete(
        self, question: str, key: str, cancellation: Cancellation | None = None
    ) -> Iterator[str | CloudAnswer]:
        """Ask, and yield the whole answer.

        Args:
            question: As the user typed it.
            key: Marks further deliveries of the same question as such.
            cancellation: Ends the wait for the cloud from another thread.

        Raises:
            CancelledError: `cancellation` said so.
            HandoffError: The policy forbids to send the question (`never_send`), the day's budget
                is used up (`budget`) or cannot be kept (`budget_failed`), or the cloud did not
                answer.
        """
        message = self._policy.message(question)
        answer = self._complete(message, key, cancellation)
        yield from self._charged(message, answer, cancellation)

    def stream(
        self, question: str, key: str, cancellation: Cancellation | None = None
    ) -> Iterator[str | CloudAnswer]:
        """As `complete`, but yield the text as it comes, and the answer last.

        The key gets an ending: servers may refuse one that comes again with another body, and a
        question that failed as a stream is later delivered from the outbox as none.
        """
        message = self._policy.message(question)
        events = self._client.stream(
            message, idempotency_key=f"{key}-stream", cancellation=cancellation
        )
        yield from self._charged(message, events, cancellation)

    def answered(self, result: Result, question: str, answer: CloudAnswer) -> Result:
        """Return a question's result with the cloud's answer in it.

        A refusal is one, without a text: it would be the same the next time. What the model thought
        aloud names options that it put aside, so no letter is looked for there.
        """
        usage = replace(
            result.usage,
            cloud_prompt_tokens=answer.prompt_tokens,
            cloud_completion_tokens=answer.completion_tokens,
        )
        refused = answer.refusal is not None
        return replace(
            result,
            source="cloud",
            reason="cloud_refused" if refused else result.deferral or result.reason,
            detail=f"cloud: refused to answer: {answer.refusal}" if refused else None,
            answer=None if refused else answer.text,
            choice=self._policy.choice(without_thoughts(answer.text), question),
            finish_reason=answer.finish_reason,
            cloud=CloudRef(answer.endpoint, answer.model, answer.attempts, answer.request_id),
            usage=usage,
        )

    def _complete(
        self, message: str, key: str, cancellation: Cancellation | None
    ) -> Iterator[CloudAnswer]:
        yield self._client.complete(message, idempotency_key=key, cancellation=cancellation)

    def _charged(
        self,
        message: str,
        events: Iterator[str | CloudAnswer],
        cancellation: Cancellation | None,
    ) -> Iterator[str | CloudAnswer]:
        """Pass events on, and count them against the budget.

        A question that was cancelled on its way counts: it may have reached a server.
        """
        if cancellation is not None:
            cancellation.check()
        if self._budget is None:
            yield from events
            return
        try:
            day = self._budget.reserve()
        except StateError as error:
            raise HandoffError("budget_failed", str(error)) from error
        try:
            for event in events:
                if isinstance(event, CloudAnswer):
                    # The answer is worth more than its count: a disk that is full now refuses the
                    # next call.
                    with suppress(StateError):
                        self._budget.spend(day, _tokens(message, event))
                yield event
        except HandoffError as error:
            if not error.sent:
                with suppress(StateError):
                    self._budget.refund(day)
            raise


def _tokens(message: str, answer: CloudAnswer) -> int:
    """Return the tokens to charge for an answer."""
    return sum(
        -(-len(text.encode()) // _BYTES_PER_TOKEN) if count is None else count
        for text, count in (
            (message, answer.prompt_tokens),
            (answer.reasoning + answer.text, answer.completion_tokens),
        )
    )
