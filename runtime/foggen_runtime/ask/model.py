"""What asking needs of a model: `LocalModel` has it, and so have small fakes in tests."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import PromptInfo
from foggen_runtime.decide.plain import Decoder, TokenEngine
from foggen_runtime.model.decoding import Decoding


class Tokenizer(Protocol):
    """From a question to ids, and from ids to text."""

    def prompt_ids(self, prompt: PromptInfo, question: str) -> list[int]:
        """Return the ids of the whole prompt; a QuestionError where it is no question."""

    def pieces(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield the text of ids as it becomes complete, never an empty piece."""


class CountingEngine(TokenEngine, Protocol):
    """An engine that counts what it is asked."""

    @property
    def forward_passes(self) -> int:
        """Calls of `forward` so far, by whomever."""


class Model(Protocol):
    """A model on this device, whose cache holds the prompt's constant prefix between questions."""

    @property
    def bundle(self) -> Bundle:
        """What was loaded; its manifest says how to ask."""

    @property
    def tokenizer(self) -> Tokenizer:
        """For the question and the answer."""

    @property
    def engine(self) -> CountingEngine:
        """Runs the graph."""

    @property
    def prefix_source(self) -> str:
        """Where the cached prefix came from: `snapshot`, `recomputed` or `none`."""

    @property
    def prefix_length(self) -> int:
        """Tokens of it."""

    @property
    def room(self) -> int:
        """The most tokens a prompt may have."""

    def decoder(self, decoding: Decoding, /) -> Decoder:
        """Return a decoder of questions after the prefix, to which the cache is rolled back."""
