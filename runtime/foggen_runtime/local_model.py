"""The model on this device: a checked bundle, its engine and its tokenizer."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, get_args

from foggen_runtime.bundle import Bundle
from foggen_runtime.decoding import Decoder, StepDecoder
from foggen_runtime.drafting import ConstrainedDecoder, GreedyDecoder
from foggen_runtime.engine import Engine, EngineOptions
from foggen_runtime.errors import ConfigError
from foggen_runtime.manifest import TOKENIZER_FILE
from foggen_runtime.snapshot import load_snapshot
from foggen_runtime.template import TemplateTrie
from foggen_runtime.tokenizer import QuestionTokenizer

# Reading the tokenizer holds the interpreter's lock all the while, opening the session does not
# once it has begun. So it begins first: seconds.
_HEAD_START = 0.005

DecodingMode = Literal["constrained", "greedy", "step"]


@dataclass(frozen=True)
class Decoding:
    """How to decode.

    Attributes:
        mode: `constrained` reads the level among the template's branches in one pass; `greedy`
            verifies drafts against plain greedy decoding; `step` is plain greedy decoding.
        max_new_tokens: The most tokens after the confidence, the answer prefix included.
        choices: In constrained mode, the only letters the answer may begin with.
    """

    mode: DecodingMode = "constrained"
    max_new_tokens: int = 256
    choices: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(DecodingMode):
            raise ConfigError(
                f"decoding: must be one of {', '.join(get_args(DecodingMode))}, is {self.mode!r}"
            )
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens: must be at least 1, is {self.max_new_tokens}")
        if self.choices is not None and (not self.choices or self.mode != "constrained"):
            raise ConfigError(
                f"choices: must be letters, with decoding constrained; are {self.choices} "
                f"with decoding {self.mode}"
            )


@dataclass(frozen=True)
class OpenOptions:
    """How to open a bundle.

    Attributes:
        engine: How onnxruntime uses the device.
        verify: Hash every file, whether or not it was verified before.
        recompute_prefix: Compute the prompt prefix's KV cache with the bundle's own graph instead
            of loading the snapshot.
    """

    engine: EngineOptions = field(default_factory=EngineOptions)
    verify: bool = False
    recompute_prefix: bool = False


class LocalModel:
    """An engine whose cache holds the prompt's constant prefix whenever no question is asked.

    Attributes:
        bundle: What was loaded.
        engine: Runs the graph.
        tokenizer: For the question and the answer.
        prefix_source: Where the cached prefix came from: `snapshot`, `recomputed` or `none`.
    """

    def __init__(self, bundle: Bundle, options: OpenOptions) -> None:
        """Load the graph, the tokenizer and the prefix.

        Raises:
            BundleError: onnxruntime refuses the graph, or the snapshot is not this bundle's.
        """
        manifest = bundle.manifest
        self.bundle = bundle
        with ThreadPoolExecutor(max_workers=1) as pool:
            graph = bundle.path(manifest.graph.file)
            engine = pool.submit(Engine, graph, manifest.model, manifest.graph, options.engine)
            time.sleep(_HEAD_START)
            self.tokenizer = QuestionTokenizer.from_file(bundle.path(TOKENIZER_FILE))
            self.engine = engine.result()
        self._trie = TemplateTrie.of(manifest.template)
        self.prefix_source = self._cache_prefix(options.recompute_prefix)
        self.prefix_length = self.engine.cache.length

    @property
    def room(self) -> int:
        """The most tokens a prompt may have and leave room for the template and one token."""
        template = self.bundle.manifest.template
        longest = max(len(path) for path in self._trie.paths)
        return self.engine.context_length - longest - len(template.answer_prefix_ids) - 1

    def decoder(self, decoding: Decoding) -> Decoder:
        """Return a decoder for one question, the cache rolled back to the prefix."""
        self.engine.cache.truncate(self.prefix_length)
        manifest = self.bundle.manifest
        eos = manifest.model.eos_token_ids
        if decoding.mode == "step":
            return StepDecoder(self.engine, self._trie, eos)
        prefix = manifest.template.answer_prefix_ids
        if decoding.mode == "greedy":
            return GreedyDecoder(self.engine, self._trie, prefix, eos)
        first = self._first_ids(decoding.choices) if decoding.choices else None
        return ConstrainedDecoder(self.engine, self._trie, prefix, eos, first)

    def _first_ids(self, choices: tuple[str, ...]) -> tuple[int, ...]:
        """Return the first token of each choice, as it continues the answer prefix."""
        template = self.bundle.manifest.template
        start = len(template.answer_prefix_ids)
        texts = [f"{template.answer_prefix} {choice}" for choice in choices]
        return tuple(self.tokenizer.encode(text)[start] for text in texts)

    def _cache_prefix(self, recompute: bool) -> str:
        manifest = self.bundle.manifest
        if recompute:
            self.engine.forward(manifest.prompt.prefix_ids)
            return "recomputed"
        if manifest.prefix_snapshot:
            self.engine.cache.restore(load_snapshot(self.bundle))
            return "snapshot"
        return "none"
