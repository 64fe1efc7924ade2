"""The model on this device: a checked bundle, its engine and its tokenizer."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Self

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import (
    DEVICE_PROFILE_FILE,
    TOKEN_TABLES_FILE,
    TOKENIZER_FILE,
    Manifest,
)
from foggen_runtime.errors import BundleError
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.engine import Engine, EngineOptions
from foggen_runtime.model.kv_cache import KvCache
from foggen_runtime.model.prepared import Prepared, find_prepared

if TYPE_CHECKING:
    from foggen_runtime.decide.plain import Decoder

# Seconds. Reading the tokenizer and importing hold the interpreter's lock throughout; opening the
# session releases it once it has begun. So the session gets a head start.
_HEAD_START = 0.005


@dataclass(frozen=True)
class OpenOptions:
    """How to open a bundle.

    Attributes:
        engine: How onnxruntime uses the device; None for what `foggen tune` found here, else the
            defaults.
        verify: Hash every file, even if it was verified before.
        recompute_prefix: Compute the prompt prefix's KV cache with the bundle's own graph instead
            of loading the snapshot.
        prepared: Whether to use a model that `foggen prepare` wrote, if it is valid here.
        prepared_directory: Where that lies; None for next to the bundle.
    """

    engine: EngineOptions | None = None
    verify: bool = False
    recompute_prefix: bool = False
    prepared: bool = True
    prepared_directory: Path | None = None


class LocalModel:
    """An engine whose cache holds the prompt's constant prefix between questions.

    Attributes:
        bundle: What was loaded.
        engine: Runs the graph.
        tokenizer: For the question and the answer.
        prepared: The prepared model that was opened, or why none was; None if none was wanted.
        prefix_source: Where the cached prefix came from: `snapshot`, `recomputed` or `none`.
        prefix_ms: Milliseconds it took; a snapshot is read while the session opens.
        prefix_length: How many tokens it has.
        room: The most tokens a prompt may have and still leave room for the template and one token.
        decoder: Returns a decoder for questions, which rolls the cache back to the prefix each
            time; raises a ConfigError if the bundle's output head lacks tokens that the decoding
            needs.
    """

    def __init__(self, bundle: Bundle, options: OpenOptions) -> None:
        """Load the graph, the tokenizer and the prefix.

        Raises:
            BundleError: onnxruntime refuses the graph, the snapshot is not this bundle's, or a
                prepared model was altered.
            ConfigError: What `foggen tune` wrote cannot be read.
        """
        manifest = bundle.manifest
        self.bundle = bundle
        settings = options.engine or _tuned(bundle)
        self.prepared = self._find_prepared(options, settings)
        graph = (self.prepared and self.prepared.graph) or bundle.path(manifest.graph.file)
        cache = _empty_cache(manifest)
        self.prefix_source, self.prefix_ms = "none", 0.0
        with _Opening(partial(Engine, graph, manifest.graph, settings, cache)) as opening:
            from foggen_runtime.model.decoders import Decoders
            from foggen_runtime.model.snapshot import load_snapshot
            from foggen_runtime.text.tokenizer import QuestionTokenizer

            self.tokenizer = QuestionTokenizer.from_file(bundle.path(tokenizer_file(manifest)))
            if manifest.prefix_snapshot and not options.recompute_prefix:
                self._cache_prefix("snapshot", lambda: cache.restore(load_snapshot(bundle)))
        self.engine = opening.engine
        prefix_ids = manifest.prompt.prefix_ids
        if options.recompute_prefix and prefix_ids:
            self._cache_prefix("recomputed", lambda: self.engine.forward(prefix_ids))
        self.prefix_length = cache.length
        decoders = Decoders(self.engine, self.tokenizer, manifest)
        self.room = decoders.room
        self.decoder: Callable[[Decoding], Decoder] = decoders.decoder

    def _find_prepared(self, options: OpenOptions, settings: EngineOptions) -> Prepared | None:
        if not options.prepared:
            return None
        place = options.prepared_directory
        return find_prepared(self.bundle, settings, place, verify=options.verify)

    def _cache_prefix(self, source: str, fill: Callable[[], object]) -> None:
        start = time.perf_counter()
        fill()
        self.prefix_ms = 1e3 * (time.perf_counter() - start)
        self.prefix_source = source


class _Opening(Thread):
    """Opens the engine in a thread of its own, with a head start on what a block does.

    `concurrent.futures` would do, but importing it would delay the start.
    """

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        super().__init__(name="opening")
        self._open_engine = open_engine
        self._opened: Engine | Exception

    def __enter__(self) -> Self:
        self.start()
        time.sleep(_HEAD_START)
        return self

    def __exit__(self, *_: object) -> None:
        self.join()

    def run(self) -> None:
        """Open the engine; errors are kept for the thread that wants it."""
        try:
            self._opened = self._open_engine()
        except Exception as error:
            self._opened = error

    @property
    def engine(self) -> Engine:
        """The engine, once the block has ended; raises what opening it raised."""
        if isinstance(self._opened, Exception):
            raise self._opened
        return self._opened


def _empty_cache(manifest: Manifest) -> KvCache:
    try:
        return KvCache(manifest.model)
    except MemoryError as error:
        model = manifest.model
        raise BundleError(
            "model.num_hidden_layers, num_key_value_heads and head_dim: must give a KV cache that "
            f"fits this device's memory, are {model.num_hidden_layers}, "
            f"{model.num_key_value_heads} and {model.head_dim}"
        ) from error


def _tuned(bundle: Bundle) -> EngineOptions:
    """Return the tuned options; only if there are some, import what reads them, slow on a board."""
    if not bundle.path(DEVICE_PROFILE_FILE).exists():
        return EngineOptions()
    from foggen_runtime.model.device_profile import load_device_profile

    return load_device_profile(bundle)


def tokenizer_file(manifest: Manifest) -> str:
    """Return the file to read the tokenizer from: the bundle's tables if it has them."""
    return TOKEN_TABLES_FILE if TOKEN_TABLES_FILE in manifest.files else TOKENIZER_FILE
