"""What asking needs of a model; `LocalModel` provides it, and so do small fakes in tests."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import PromptInfo
from foggen_runtime.decide.plain import Decoder, TokenEngine
from foggen_runtime.model.decoding import Decoding


class Tokenizer(Protocol):
    """Turns a question into ids, and ids into text."""

    def prompt_ids(self, prompt: PromptInfo, question: str) -> list[int]:
        """Return the ids of the whole prompt; raise a QuestionError for an invalid question."""

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield the ids' text as soon as it is complete; no piece is empty."""


class CountingEngine(TokenEngine, Protocol):
    """An engine that counts its passes."""

    @property
    def forward_passes(self) -> int:
        """Calls of `forward` so far, for any question."""


class Model(Protocol):
    """A model on this device, whose cache holds the prompt's constant prefix between questions."""

    @property
    def bundle(self) -> Bundle:
        """The loaded bundle; its manifest says how to ask."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Encodes the question and decodes the answer."""

    @property
    def engine(self) -> CountingEngine:
        """Runs the graph."""

    @property
    def prefix_source(self) -> str:
        """Where the cached prefix came from: `snapshot`, `recomputed` or `none`."""

    @property
    def prefix_length(self) -> int:
        """How many tokens the prefix has."""

    @property
    def room(self) -> int:
        """The most tokens a prompt may have."""

    def decoder(self, decoding: Decoding, /) -> Decoder:
        """Return a decoder for questions; it rolls the cache back to the prefix each time."""
