"""What every engine's process does: load, answer questions, time them, print one JSON line.

Standard library only, for it runs in each engine's own virtual environment. A prompt goes in as
token ids and tokens come out, so tokenizers are never timed.
"""

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

# `Confidence: 0.75` has 8 tokens; with a newline and `Final answer: B` they are 13.
DECISION_TOKENS = 8
LETTER_TOKENS = 13
DECODED_TOKENS = 64

Mark = Callable[[], None]


@dataclass(frozen=True)
class Request:
    """What one process shall do.

    Attributes:
        model: Directory or file of the engine's model.
        option: Which way to drive the engine; empty for its plain one.
        threads: Worker threads.
        prefix_length: How many tokens all questions begin with.
        level_ids: The token ids of each confidence level's text.
        questions: Prompts as token ids; the first counts for loading only, the second warms up.
        pp128: Prompts of 128 random tokens, the first to warm up.
        pp512: Prompts of 512 random tokens, the first to warm up.
    """

    model: str
    option: str
    threads: int
    prefix_length: int
    level_ids: list[list[int]]
    questions: list[list[int]]
    pp128: list[list[int]]
    pp512: list[list[int]]

    @classmethod
    def read(cls) -> Self:
        """Read a request from standard input."""
        return cls(**json.load(sys.stdin))


@dataclass(frozen=True)
class Measurement:
    """Raw timings of one process; lists hold one number for each prompt that is not warm-up.

    Attributes:
        first_decision: When the first question was decided, on the machine's monotonic clock (s).
        decision_ms: From the prompt to the known confidence.
        letter_ms: From the prompt to the answer's letter.
        pp128_ms: From 128 tokens to the first one written.
        pp512_ms: From 512 tokens to the first one written.
        tg64_ms: 64 tokens after the first, after a prompt of 128.
        peak_rss_mb: Of loading and the questions, before the longer prompts.
    """

    first_decision: float
    decision_ms: list[float]
    letter_ms: list[float]
    pp128_ms: list[float]
    pp512_ms: list[float]
    tg64_ms: list[float]
    peak_rss_mb: float


class Peer(ABC):
    """An engine with a model loaded. Questions come first, then streams."""

    @abstractmethod
    def stream(self, prompt: Sequence[int], count: int, mark: Mark) -> None:
        """Write `count` tokens greedily, past any end of sequence; mark each."""

    def question(self, prompt: Sequence[int], mark: Mark) -> None:
        """Answer a question; mark when the confidence is known, and again at the letter."""
        written = 0

        def count() -> None:
            nonlocal written
            written += 1
            if written in (DECISION_TOKENS, LETTER_TOKENS):
                mark()

        self.stream(prompt, LETTER_TOKENS, count)


def run(load: Callable[[Request], Peer]) -> None:
    """Measure an engine as standard input asks, and print a `Measurement` as JSON."""
    request = Request.read()
    peer = load(request)
    moments: list[float] = []
    peer.question(request.questions[0], lambda: moments.append(time.monotonic()))
    decided = [_times(peer.question, prompt) for prompt in request.questions[1:]][1:]
    peak = peak_rss_mb()
    short = [_stream_times(peer, prompt, 1 + DECODED_TOKENS) for prompt in request.pp128][1:]
    long = [_stream_times(peer, prompt, 1) for prompt in request.pp512][1:]
    measurement = Measurement(
        first_decision=moments[0],
        decision_ms=[times[0] for times in decided],
        letter_ms=[times[1] for times in decided],
        pp128_ms=[times[0] for times in short],
        pp512_ms=[times[0] for times in long],
        tg64_ms=[times[DECODED_TOKENS] - times[0] for times in short],
        peak_rss_mb=peak,
    )
    print(json.dumps(asdict(measurement)), flush=True)


def _stream_times(peer: Peer, prompt: Sequence[int], count: int) -> list[float]:
    times = _times(lambda ids, mark: peer.stream(ids, count, mark), prompt)
    if len(times) != count:
        raise RuntimeError(f"the engine wrote {len(times)} of {count} tokens")
    return times


def _times(work: Callable[[Sequence[int], Mark], None], prompt: Sequence[int]) -> list[float]:
    """Return when `work` marked, in milliseconds from its call."""
    times: list[float] = []
    start = time.perf_counter()
    work(prompt, lambda: times.append(1e3 * (time.perf_counter() - start)))
    return times


def peak_rss_mb() -> float:
    """Return the largest resident set of this process so far, mapped files included."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e6
