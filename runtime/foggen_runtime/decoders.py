"""Which decoder a question gets: by how it is asked, and by what the bundle's head can."""

from dataclasses import replace
from typing import TYPE_CHECKING

from foggen_runtime.decoding import Decoder, StepDecoder, TokenEngine
from foggen_runtime.drafting import ChoiceDecoder, ConstrainedDecoder, GreedyDecoder
from foggen_runtime.errors import ConfigError
from foggen_runtime.manifest import HeadInfo, Manifest
from foggen_runtime.template import TemplateTrie
from foggen_runtime.tokenizer import QuestionTokenizer

if TYPE_CHECKING:
    from foggen_runtime.local_model import Decoding


class Decoders:
    """The decoders of one bundle."""

    def __init__(self, tokenizer: QuestionTokenizer, manifest: Manifest) -> None:
        self._tokenizer = tokenizer
        self._manifest = manifest
        self._trie = TemplateTrie.of(manifest.template)

    @property
    def shortest_reply(self) -> int:
        """Tokens to leave for a reply: the longest level, the answer prefix and one more."""
        longest = max(len(path) for path in self._trie.paths)
        return longest + len(self._manifest.template.answer_prefix_ids) + 1

    def decoder(self, engine: TokenEngine, decoding: "Decoding") -> Decoder:
        """Return a decoder for one question.

        Args:
            engine: Holds what comes before the question.
            decoding: How to decode.

        Raises:
            ConfigError: The bundle's output head is not enough for this decoding.
        """
        manifest = self._manifest
        eos = manifest.model.eos_token_ids
        if manifest.graph.head:
            return self._choice_decoder(engine, manifest.graph.head, decoding)
        if decoding.mode == "step":
            return StepDecoder(engine, self._trie, eos)
        prefix = manifest.template.answer_prefix_ids
        if decoding.mode == "greedy":
            return GreedyDecoder(engine, self._trie, prefix, eos)
        first = self._first_ids(decoding.choices) if decoding.choices else None
        return ConstrainedDecoder(engine, self._trie, prefix, eos, first)

    def _choice_decoder(
        self, engine: TokenEngine, head: HeadInfo, decoding: "Decoding"
    ) -> ChoiceDecoder:
        manifest = self._manifest
        if decoding.mode != "constrained":
            raise ConfigError(
                "decoding: must be constrained with a bundle whose output head is of kind "
                f"{head.kind}, is {decoding.mode}"
            )
        if decoding.choices:
            first = self._first_ids(decoding.choices)
            if not set(first) <= set(head.answer_ids):
                raise ConfigError(
                    "choices: must be letters that the bundle's output head has, are "
                    f"{', '.join(decoding.choices)}"
                )
            head = replace(head, answer_ids=first)
        prefix, eos = manifest.template.answer_prefix_ids, manifest.model.eos_token_ids
        return ChoiceDecoder(engine, self._trie, prefix, eos, head)

    def _first_ids(self, choices: tuple[str, ...]) -> tuple[int, ...]:
        """Return the first token of each choice, as it continues the answer prefix."""
        template = self._manifest.template
        start = len(template.answer_prefix_ids)
        texts = [f"{template.answer_prefix} {choice}" for choice in choices]
        return tuple(self._tokenizer.encode(text)[start] for text in texts)
