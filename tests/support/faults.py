"""What `fault_server` can do wrong, what it counts, and how it writes an answer."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum, auto

MODEL = "fault-model"


class Fault(StrEnum):
    """What happens in place of an answer."""

    REFUSE = auto()  # resets the connection, and refuses all others for a moment
    HANG_BEFORE_HEADERS = auto()  # takes the request and stays silent
    HANG_MID_STREAM = auto()  # stays silent in the middle of the body
    HALF_CHUNK = auto()  # closes in the middle of a chunk
    INVALID_JSON = auto()  # a whole response, its JSON cut
    RETRY_AFTER_SECONDS = auto()  # 429
    RETRY_AFTER_DATE = auto()  # 429
    SERVER_ERROR = auto()  # 500
    BAD_GATEWAY = auto()  # 502, in HTML
    UNAVAILABLE = auto()  # 503
    WRONG_CONTENT_TYPE = auto()  # 200 and HTML, as a captive portal
    ERROR_BODY = auto()  # 200 and an error
    SLOW_DRIP = auto()  # a byte of the body every 50 ms


@dataclass(frozen=True)
class FaultSettings:
    """How a server behaves.

    Attributes:
        seed: Of the draw of faults.
        fault_rate: Share of requests under `/v1` that meet a fault.
        faults: Those that are drawn from, evenly.
        ignore_idempotency: Whether a key that was seen makes a new answer.
        retry_after: Seconds that the 429s ask for.
        refusing: Seconds for which the port refuses after a refusal.
    """

    seed: int = 1
    fault_rate: float = 0.3
    faults: tuple[Fault, ...] = tuple(Fault)
    ignore_idempotency: bool = False
    retry_after: int = 1
    refusing: float = 0.01


@dataclass
class Stats:
    """What a server saw; counts of upstream calls are of answers that were made.

    Attributes:
        requests: Questions received.
        faults: How many of each fault.
        calls: Answers made for each idempotency key, or for each request that had none.
        answers: The text given to each key, in the order in which they were made.
        held: For each fault that waits until the client goes away: fault, whether streamed, and
            for how many seconds the client stayed.
    """

    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    answers: dict[str, list[str]] = field(default_factory=dict)
    held: list[tuple[str, bool, float]] = field(default_factory=list)

    def document(self) -> dict[str, object]:
        """Return what `/stats` tells."""
        return {
            "requests": self.requests,
            "faults": dict(self.faults),
            "keys": len(self.calls),
            "upstream_calls": self.calls.total(),
            "duplicate_calls": self.calls.total() - len(self.calls),
            "calls": dict(self.calls),
            "held": self.held,
        }


def digest(question: str) -> str:
    """Return what an answer says about its question."""
    return hashlib.sha256(question.encode()).hexdigest()[:12]


def completion(text: str, question: str) -> bytes:
    """Write a whole answer."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return as_json(
        {**_envelope("chat.completion"), "choices": [choice], "usage": _usage(text, question)}
    )


def events(text: str, question: str) -> Iterator[bytes]:
    """Write a streamed answer: a few characters in each event, usage, the end."""
    head = _envelope("chat.completion.chunk")
    for start in range(0, len(text), 8):
        delta = {"content": text[start : start + 8]}
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        yield b"data: %b\n\n" % as_json({**head, "choices": [choice]})
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield b"data: %b\n\n" % as_json({**head, "choices": [choice]})
    yield b"data: %b\n\n" % as_json({**head, "choices": [], "usage": _usage(text, question)})
    yield b"data: [DONE]\n\n"


def _envelope(kind: str) -> dict[str, object]:
    return {"id": "chatcmpl-fault", "object": kind, "created": 0, "model": MODEL}


def _usage(text: str, question: str) -> dict[str, int]:
    counts = {"prompt_tokens": len(question), "completion_tokens": len(text)}
    return {**counts, "total_tokens": sum(counts.values())}


def as_json(value: object) -> bytes:
    """Write JSON, non-ASCII as it is."""
    return json.dumps(value, ensure_ascii=False).encode()
