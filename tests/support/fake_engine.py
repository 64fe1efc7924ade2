"""An engine without a model: its logits are a fixed function of every token before."""

from collections.abc import Callable, Sequence

import numpy as np

from foggen_runtime.arrays import Float32

NextLogits = Callable[[tuple[int, ...]], Float32]


class FakeCache:
    """The tokens themselves, instead of their keys and values."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    @property
    def length(self) -> int:
        return len(self.tokens)

    def truncate(self, length: int) -> None:
        assert 0 <= length <= len(self.tokens)
        del self.tokens[length:]


class FakeEngine:
    """Gives the logits of `next_logits` and counts its passes."""

    def __init__(self, next_logits: NextLogits, logits_tail: int = 64) -> None:
        self.cache = FakeCache()
        self.logits_tail = logits_tail
        self.context_length = 4096
        self.forward_passes = 0
        self._next_logits = next_logits

    def forward(self, ids: Sequence[int]) -> Float32:
        assert len(ids) > 0
        self.forward_passes += 1
        tokens = self.cache.tokens
        ends = range(len(tokens) + 1, len(tokens) + len(ids) + 1)
        tokens.extend(ids)
        rows = [self._next_logits(tuple(tokens[:end])) for end in ends[-self.logits_tail :]]
        return np.stack(rows)


def random_logits(vocab_size: int, seed: int) -> NextLogits:
    """Return a language model of noise: every context has logits of its own."""

    def next_logits(context: tuple[int, ...]) -> Float32:
        generator = np.random.default_rng([seed, *context])
        return generator.normal(size=vocab_size).astype(np.float32)

    return next_logits


def scripted_logits(script: Sequence[int], start: int, noise: NextLogits) -> NextLogits:
    """Return noise that from position `start` on writes a script, as long as it is followed."""

    def next_logits(context: tuple[int, ...]) -> Float32:
        row = noise(context)
        written = context[start:]
        follows = len(context) >= start and written == tuple(script[: len(written)])
        if follows and len(written) < len(script):
            row[script[len(written)]] += 100
        return row

    return next_logits
