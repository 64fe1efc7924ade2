"""Handing a question to the cloud as the policy allows: rules, redaction and budget come first."""

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

# If a server does not count tokens, this many bytes of UTF-8 count as one.
_BYTES_PER_TOKEN = 4


class Client(Protocol):
    """What handing off needs of a client; `CloudClient` provides it."""

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
        """Ask, and yield the answer's text piece by piece, then the whole answer."""

    def warm(self) -> None:
        """Start connecting."""

    def close(self) -> None:
        """Close what is open."""


class Handoff:
    """Hands questions to the cloud as a policy allows."""

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
        """Start connecting, unless the question would not be sent anyway."""
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
            key: Idempotency key, the same for every delivery of a question.
            cancellation: Lets another thread end the wait for the cloud.

        Raises:
            CancelledError: `cancellation` was cancelled.
            HandoffError: The policy forbids sending the question (`never_send`), the day's budget
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

        The key gets a suffix: a question that failed as a stream may later be delivered whole from
        the outbox, and servers may refuse a key that comes back with a different body.
        """
        message = self._policy.message(question)
        events = self._client.stream(
            message, idempotency_key=f"{key}-stream", cancellation=cancellation
        )
        yield from self._charged(message, events, cancellation)

    def answered(self, result: Result, question: str, answer: CloudAnswer) -> Result:
        """Return a question's result with the cloud's answer in it.

        A refusal counts as an answer, without a text: asking again would give the same. A model's
        thoughts name options that it rejected, so no letter is looked for there.
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

        A question that was cancelled while being sent counts: it may have reached a server.
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
                    # The answer is worth more than its count; if the disk is full, the next call is
                    # refused.
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
