"""Which decoder a question gets: by how it is asked, and by what the bundle's head can."""

from dataclasses import replace
from functools import cache

from foggen_runtime.bundle.manifest import HeadInfo, Manifest
from foggen_runtime.decide.constrained import ChoiceDecoder, ConstrainedDecoder
from foggen_runtime.decide.greedy import GreedyDecoder
from foggen_runtime.decide.plain import Decoder, StepDecoder, TokenEngine
from foggen_runtime.decide.trie import TemplateTrie
from foggen_runtime.errors import ConfigError
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.text.letters import letter_ids
from foggen_runtime.text.tokenizer import QuestionTokenizer


class Decoders:
    """The decoders of one bundle."""

    def __init__(self, tokenizer: QuestionTokenizer, manifest: Manifest) -> None:
        self._tokenizer = tokenizer
        self._manifest = manifest
        self._trie = TemplateTrie.of(manifest.template)
        self._letter_ids = cache(self._find_letter_ids)

    @property
    def shortest_reply(self) -> int:
        """Tokens to leave for a reply: the longest level, the answer prefix and one more."""
        longest = max(len(path) for path in self._trie.paths)
        return longest + len(self._manifest.template.answer_prefix_ids) + 1

    def decoder(self, engine: TokenEngine, decoding: Decoding) -> Decoder:
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
        self, engine: TokenEngine, head: HeadInfo, decoding: Decoding
    ) -> ChoiceDecoder:
        manifest = self._manifest
        if decoding.mode != "constrained":
            raise ConfigError(
                "decoding: must be constrained with a bundle whose output head is of kind "
                f"{head.kind}, is {decoding.mode}"
            )
        if decoding.choices:
            head = replace(head, answer_ids=self._first_ids(decoding.choices, head.answer_ids))
        prefix, eos = manifest.template.answer_prefix_ids, manifest.model.eos_token_ids
        return ChoiceDecoder(engine, self._trie, prefix, eos, head)

    def _first_ids(
        self, choices: tuple[str, ...], among: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """Return the tokens that the choices may be written with after the answer prefix.

        Args:
            choices: The letters.
            among: The tokens there are; None for all.
        """
        first: list[int] = []
        for choice in choices:
            ids = self._letter_ids(choice)
            if among is not None:
                ids = tuple(token for token in ids if token in among)
            if not ids:
                rule = "that the bundle's output head has" if among else "of one token each"
                raise ConfigError(
                    f"choices: must be letters {rule}, are {', '.join(choices)}; {choice} is none"
                )
            first.extend(ids)
        return tuple(first)

    def _find_letter_ids(self, choice: str) -> tuple[int, ...]:
        template = self._manifest.template
        prefix = template.answer_prefix_ids
        before = self._tokenizer.decode((*template.separator_ids, *prefix))
        return letter_ids(self._tokenizer.encode, before, prefix, choice)
