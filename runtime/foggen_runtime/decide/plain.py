"""The decoding loop, over token ids only: first a decision, then the answer if it is wanted.

A decoder's output is `decision.tokens` and then the tokens of `answer`. The caller compares the
confidence with tau in between, and to defer simply does not ask for the answer.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from foggen_runtime.arrays import Float32
from foggen_runtime.decide.trie import ROOT, Node, Reading, TemplateTrie, read_levels


class Cache(Protocol):
    """What decoding needs of a KV cache."""

    @property
    def length(self) -> int:
        """Tokens held."""

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""


class TokenEngine(Protocol):
    """What decoding needs of an engine."""

    @property
    def cache(self) -> Cache:
        """Where `forward` appends."""

    @property
    def logits_tail(self) -> int:
        """How many of a `forward`'s last positions get logits."""

    @property
    def context_length(self) -> int:
        """The most tokens the cache may hold."""

    def forward(self, ids: Sequence[int]) -> Float32:
        """Append tokens; return (min(len(ids), logits_tail), vocab_size) logits."""


@dataclass(frozen=True)
class Decision:
    """What the model wrote up to its confidence, and how sure it was of that.

    Attributes:
        tokens: The ids written, from the first of the confidence span to the separator after it.
        level: Index of the level; None when the output left the template.
        reading: The levels' probabilities; None when not every branch was visited.
        prefill_ms: Milliseconds of the first forward pass.
    """

    tokens: tuple[int, ...]
    level: int | None
    reading: Reading | None
    prefill_ms: float


class Decoder(Protocol):
    """A way to decode, question after question.

    Whatever the engine holds when the decoder is made comes before every question.
    """

    def decide(self, prompt: Sequence[int]) -> Decision:
        """Forget the last question, feed the prompt, and decode up to the end of the confidence."""

    def answer(self, max_new_tokens: int) -> Iterator[int]:
        """Yield the ids after the separator, the end-of-sequence id included if it comes."""


class StepDecoder:
    """The plain loop, one token per forward pass: the reference for the others."""

    def __init__(
        self, engine: TokenEngine, trie: TemplateTrie, eos_token_ids: tuple[int, ...]
    ) -> None:
        self._engine = engine
        self._trie = trie
        self._eos_token_ids = eos_token_ids
        self._before = engine.cache.length
        self._pending = -1

    def decide(self, prompt: Sequence[int]) -> Decision:
        """Feed the prompt, then token by token to the end of the span."""
        self._engine.cache.truncate(self._before)
        start = time.perf_counter()
        row = self._engine.forward(prompt)[-1]
        prefill_ms = 1e3 * (time.perf_counter() - start)
        rows = {ROOT: row}
        node: Node = ROOT
        while True:
            node = (*node, int(row.argmax()))
            if node in self._trie.paths:
                self._pending = node[-1]
                return Decision(
                    node, self._trie.paths.index(node), full_reading(self._trie, rows), prefill_ms
                )
            if node not in self._trie.children:
                return Decision(node, None, None, prefill_ms)
            row = rows[node] = self._engine.forward(node[-1:])[-1]

    def answer(self, max_new_tokens: int) -> Iterator[int]:
        """Yield the ids after the separator, the end-of-sequence id included if it comes."""
        return greedy_steps(self._engine, self._pending, max_new_tokens, self._eos_token_ids)


def greedy_steps(
    engine: TokenEngine, token: int, max_new_tokens: int, eos_token_ids: tuple[int, ...]
) -> Iterator[int]:
    """Yield the arg max after `token`, then the one after that, until an end or the limit.

    Args:
        engine: Holds everything before `token`.
        token: The last token written, not yet in the cache.
        max_new_tokens: Yield at most this many tokens; the context length is a limit too.
        eos_token_ids: Tokens that end the output; the one met is yielded.
    """
    room = engine.context_length - engine.cache.length
    for _ in range(min(max_new_tokens, room)):
        if token in eos_token_ids:
            return
        token = int(engine.forward((token,))[-1].argmax())
        yield token


def last_rows(engine: TokenEngine, ids: Sequence[int], count: int) -> Float32:
    """Append `ids` and return the logits of the last `count`, in one pass if the tail is enough.

    Returns:
        (count, vocab_size), float32.
    """
    tail = engine.logits_tail
    first = len(ids) - max(0, count - tail)
    parts = [engine.forward(ids[:first])[-min(count, tail) :]]
    parts.extend(
        engine.forward(ids[start : start + tail]) for start in range(first, len(ids), tail)
    )
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def full_reading(trie: TemplateTrie, rows: dict[Node, Float32]) -> Reading | None:
    """Read the levels if every branching node was visited."""
    return read_levels(trie, rows) if all(node in rows for node in trie.branches) else None
