"""One engine for several threads: a question that waits for the cloud lets the next one have it."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from foggen_runtime.ask.foggen import Foggen
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.hub import locate_bundle
from foggen_runtime.decide.plain import Decision, Decoder
from foggen_runtime.decide.trie import Float32
from foggen_runtime.handoff.policy import Policy
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.engine import Engine
from foggen_runtime.model.kv_cache import KvCache
from foggen_runtime.model.local_model import LocalModel, OpenOptions

if TYPE_CHECKING:
    from foggen_runtime.cloud.endpoints import Cloud

# An answer, if it is given here, begins right after the decision: seconds.
_MOMENT = 0.005


class Turns:
    """Who may use the engine: one thread at a time, in the order they came."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: deque[int] = deque()
        self._owner: int | None = None
        self._left: float | None = None

    def take(self) -> bool:
        """Wait for the engine; tell whether it is as this thread left it."""
        me = threading.get_ident()
        with self._changed:
            kept = self._owner == me
            if not kept:
                self._line.append(me)
                while self._line[0] != me or not self._free():
                    self._changed.wait(None if self._left is None else _MOMENT)
                self._line.popleft()
            self._owner, self._left = me, None
        return kept

    def leave(self) -> None:
        """Let others have the engine if this thread does not want it again in a moment."""
        with self._changed:
            if self._owner == threading.get_ident():
                self._left = time.monotonic()
                self._changed.notify_all()

    def give(self) -> None:
        """Let others have the engine, if this thread still does."""
        with self._changed:
            if self._owner == threading.get_ident():
                self._owner, self._left = None, None
                self._changed.notify_all()

    def _free(self) -> bool:
        left = self._left
        return self._owner is None or (left is not None and time.monotonic() - left >= _MOMENT)


class _ThreadEngine:
    """An engine that counts each thread's forward passes apart."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._mine = threading.local()

    @property
    def cache(self) -> KvCache:
        return self._engine.cache

    @property
    def logits_tail(self) -> int:
        return self._engine.logits_tail

    @property
    def context_length(self) -> int:
        return self._engine.context_length

    @property
    def forward_passes(self) -> int:
        passes: int = getattr(self._mine, "passes", 0)
        return passes

    def forward(self, ids: Sequence[int]) -> Float32:
        before = self._engine.forward_passes
        logits = self._engine.forward(ids)
        self._mine.passes = self.forward_passes + self._engine.forward_passes - before
        return logits


class SharedModel(LocalModel):
    """A model whose decoders may be driven by several threads, each with a question of its own.

    Attributes:
        turns: Who may use the engine.
    """

    def __init__(self, bundle: Bundle, options: OpenOptions) -> None:
        super().__init__(bundle, options)
        self.turns = Turns()
        # In all that a question asks of an engine, this one is no different.
        self.engine = cast(Engine, _ThreadEngine(self.engine))

    def decoder(self, decoding: Decoding) -> Decoder:
        """Return a decoder that uses the engine in its turn."""
        return _TurnDecoder(self, decoding)

    def exclusive_decoder(self, decoding: Decoding) -> Decoder:
        """Return a decoder for whoever has the turn, the cache rolled back to the prefix."""
        return super().decoder(decoding)


class _TurnDecoder:
    """Decides in its turn, and answers in it; decides again where others came in between."""

    def __init__(self, model: SharedModel, decoding: Decoding) -> None:
        self._model = model
        self._decoding = decoding
        self._prompt: Sequence[int] = ()
        self._decoder: Decoder | None = None

    def decide(self, prompt: Sequence[int]) -> Decision:
        """Feed the rest of the prompt and go on to the end of the confidence span."""
        self._prompt = prompt
        self._model.turns.take()
        try:
            self._decoder = self._model.exclusive_decoder(self._decoding)
            return self._decoder.decide(prompt)
        finally:
            self._model.turns.leave()

    def answer(self, max_new_tokens: int) -> Iterator[int]:
        """Yield the ids after the separator."""
        kept = self._model.turns.take()
        try:
            if not kept or self._decoder is None:
                self._decoder = self._model.exclusive_decoder(self._decoding)
                self._decoder.decide(self._prompt)
            yield from self._decoder.answer(max_new_tokens)
        finally:
            self._model.turns.give()


def open_shared(
    path: str | Path, cloud: "Cloud | None", options: OpenOptions, policy: Policy
) -> Foggen:
    """Load a bundle as `Foggen.open` does, for a server: it answers while handoffs wait.

    Raises:
        BundleError: It is missing, altered, or of a version this runtime does not read.
        ConfigError: The policy asks for a file that it does not name.
        StateError: A file the policy names cannot be used.
    """
    with_snapshot = not options.recompute_prefix
    bundle = Bundle.open(locate_bundle(path), verify=options.verify, with_snapshot=with_snapshot)
    return Foggen(SharedModel(bundle, options), cloud, policy)
