"""What the server answers, in the format of OpenAI's API."""

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from foggen_runtime.errors import FoggenError, QuestionError, RequestError
from foggen_runtime.result import BundleRef, Result

# What a client is told when the cloud is to blame.
_CLOUD_STATUS = {"cloud_timeout": 504}
_STATE_REASONS = ("outbox_full", "outbox_failed", "budget_failed")
_FINISH_REASONS = ("stop", "length", "content_filter")

Document = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What all parts of one answer have in common.

    Attributes:
        bundle: Who answers.
        id: The completion's id, also sent as `X-Request-Id`.
        created: Unix time in seconds.
    """

    bundle: BundleRef
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, result: Result) -> Document:
        """Return the whole answer as one document."""
        message = {"role": "assistant", "content": result.answer, "refusal": refusal(result)}
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": finish_reason(result),
            "logprobs": None,
        }
        return {
            **self._head("chat.completion"),
            "choices": [choice],
            "usage": usage(result),
            "x_foggen": provenance(result),
        }

    def first_chunk(self) -> Document:
        """Return the chunk that opens a stream."""
        return self._chunk({"role": "assistant", "content": ""})

    def text_chunk(self, text: str) -> Document:
        """Return a chunk with a piece of the answer."""
        return self._chunk({"content": text})

    def last_chunk(self, result: Result) -> Document:
        """Return the chunk that ends the answer and says who gave it."""
        refused = refusal(result)
        chunk = self._chunk({} if refused is None else {"refusal": refused})
        chunk["choices"][0]["finish_reason"] = finish_reason(result)
        return {**chunk, "x_foggen": provenance(result)}

    def usage_chunk(self, result: Result) -> Document:
        """Return the chunk with the usage, and without a choice."""
        head = self._head("chat.completion.chunk")
        return {**head, "choices": [], "usage": usage(result)}

    def _chunk(self, delta: dict[str, str]) -> Document:
        choice = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": None}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _head(self, kind: str) -> Document:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.bundle.name,
            "system_fingerprint": f"fp_{self.bundle.sha256[:12]}",
        }


def failure(result: Result) -> RequestError | None:
    """Return a result as an error, if it is one: this device or the cloud failed.

    A deferred question that nobody may answer is not an error: deferring is this model's answer.
    """
    if result.source != "none":
        return None
    if result.reason.startswith("cloud_"):
        status = _CLOUD_STATUS.get(result.reason, 502)
        return RequestError(status, result.reason, f"cloud: did not answer ({result.reason})")
    if result.reason in _STATE_REASONS:
        return RequestError(503, result.reason, f"server: cannot hand off ({result.reason})")
    if result.reason == "local_error":
        return RequestError(500, "local_error", "model: failed on this device")
    return None


def as_request_error(error: Exception) -> RequestError:
    """Return what a client is told about an error; never the text of an unexpected one."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, QuestionError):
        where = "messages[0].content"
        return RequestError(400, "invalid_question", f"{where}: cannot be asked", where)
    kind = type(error).__name__ if isinstance(error, FoggenError) else "unexpected error"
    return RequestError(500, "internal_error", f"server: failed: {kind}")


def error_document(error: RequestError, result: Result | None = None) -> Document:
    """Return an error in OpenAI's format, with the provenance of a result that failed."""
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    if error.status == 429:
        kind = "rate_limit_error"
    document: Document = {
        "error": {
            "message": str(error),
            "type": kind,
            "param": error.param,
            "code": error.code,
        }
    }
    if result is not None:
        document["x_foggen"] = provenance(result)
    return document


def provenance(result: Result) -> Document:
    """Return the result without its answer."""
    document = result.to_dict()
    del document["answer"]
    return document


def provenance_headers(result: Result) -> dict[str, str]:
    """Return as much of the provenance as fits into headers."""
    headers = {
        "X-Foggen-Source": result.source,
        "X-Foggen-Reason": result.reason,
        "X-Foggen-Tau": f"{result.tau:g}",
    }
    if result.confidence is not None:
        headers["X-Foggen-Confidence"] = f"{result.confidence:g}"
    return headers


def usage(result: Result) -> Document:
    """Return the tokens of the side that answered; `x_foggen.usage` has both."""
    spent = result.usage
    if result.source == "cloud":
        prompt, completion = spent.cloud_prompt_tokens or 0, spent.cloud_completion_tokens or 0
        cached = 0
    else:
        prompt, completion = spent.prompt_tokens, spent.decoded_tokens
        cached = spent.cached_prompt_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def refusal(result: Result) -> str | None:
    """Return why there is no answer, as the model's refusal; None if there is an answer."""
    if result.answer is not None:
        return None
    if result.source == "queued":
        return "Queued: the cloud did not answer; the question will be sent later."
    if result.reason == "cloud_refused" and result.detail:
        return result.detail
    sure = "" if result.confidence is None else f", confidence {result.confidence:g}"
    return f"No answer: {result.reason}{sure}, tau {result.tau:g}."


def finish_reason(result: Result) -> str:
    """Return why the answer ended, in OpenAI's words."""
    return result.finish_reason if result.finish_reason in _FINISH_REASONS else "stop"
