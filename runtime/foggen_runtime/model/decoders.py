"""Which decoder a question gets: that depends on how it is asked and on the bundle's head."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from foggen_runtime.bundle.manifest import HeadInfo, Manifest
from foggen_runtime.decide.constrained import ChoiceDecoder, ConstrainedDecoder
from foggen_runtime.decide.greedy import GreedyDecoder
from foggen_runtime.decide.plain import Decoder, StepDecoder, TokenEngine
from foggen_runtime.decide.trie import TemplateTrie
from foggen_runtime.errors import ConfigError
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.text.letters import letter_ids


class Tokenizer(Protocol):
    """What a tokenizer must do to find the tokens of option letters."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""


class Decoders:
    """The decoders of one bundle, on an engine that holds the prompt's constant prefix."""

    def __init__(self, engine: TokenEngine, tokenizer: Tokenizer, manifest: Manifest) -> None:
        self._engine = engine
        self._prefix_length = engine.cache.length
        self._tokenizer = tokenizer
        self._manifest = manifest
        self._trie = TemplateTrie.of(manifest.template)
        self._letter_ids: dict[str, tuple[int, ...]] = {}

    @property
    def room(self) -> int:
        """The most tokens a prompt may have and still leave room for the shortest reply.

        That is the longest level, the answer prefix and one token.
        """
        longest = max(len(path) for path in self._trie.paths)
        reply = longest + len(self._manifest.template.answer_prefix_ids) + 1
        return self._engine.context_length - reply

    def decoder(self, decoding: Decoding) -> Decoder:
        """Return a decoder for questions; it rolls the cache back to the prefix each time.

        Raises:
            ConfigError: The bundle's output head lacks tokens that this decoding needs.
        """
        engine, manifest = self._engine, self._manifest
        engine.cache.truncate(self._prefix_length)
        eos = manifest.model.eos_token_ids
        if manifest.graph.head:
            return self._choice_decoder(manifest.graph.head, decoding)
        if decoding.mode == "step":
            return StepDecoder(engine, self._trie, eos)
        prefix = manifest.template.answer_prefix_ids
        if decoding.mode == "greedy":
            return GreedyDecoder(engine, self._trie, prefix, eos)
        first = self._first_ids(decoding.choices) if decoding.choices else None
        return ConstrainedDecoder(engine, self._trie, prefix, eos, first)

    def _choice_decoder(self, head: HeadInfo, decoding: Decoding) -> ChoiceDecoder:
        manifest = self._manifest
        if decoding.mode != "constrained":
            raise ConfigError(
                "decoding: must be constrained with a bundle whose output head is of kind "
                f"{head.kind}, is {decoding.mode}"
            )
        if decoding.choices:
            head = replace(head, answer_ids=self._first_ids(decoding.choices, head.answer_ids))
        prefix, eos = manifest.template.answer_prefix_ids, manifest.model.eos_token_ids
        return ChoiceDecoder(self._engine, self._trie, prefix, eos, head)

    def _first_ids(
        self, choices: tuple[str, ...], among: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """Return the tokens that may spell the choices after the answer prefix.

        Args:
            choices: The letters.
            among: The tokens that exist; None for all.
        """
        first: list[int] = []
        for choice in choices:
            ids = self._ids_of_letter(choice)
            if among is not None:
                ids = tuple(token for token in ids if token in among)
            if not ids:
                rule = "that the bundle's output head has" if among else "of one token each"
                raise ConfigError(
                    f"choices: must be letters {rule}, are {', '.join(choices)}; {choice} is not"
                )
            first.extend(ids)
        return tuple(first)

    def _ids_of_letter(self, letter: str) -> tuple[int, ...]:
        if letter not in self._letter_ids:
            template = self._manifest.template
            prefix = template.answer_prefix_ids
            before = self._tokenizer.decode((*template.separator_ids, *prefix))
            ids = letter_ids(self._tokenizer.encode, before, prefix, letter)
            self._letter_ids[letter] = ids
        return self._letter_ids[letter]
