"""onnxruntime-genai.

Options: empty for plain greedy decoding; `guided` constrains the output by a regular expression
and lets the engine append what it forces; `guided rewind` also keeps the constant prefix cached.
"""

import json
import os
from collections.abc import Sequence

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it loads onnxruntime

import onnxruntime_genai as og

from benchmarks.peers.measuring import DECISION_TOKENS, LETTER_TOKENS, Mark, Peer, Request, run

OUTPUT = r"Confidence: (0\.0|0\.25|0\.5|0\.75|1\.0)\nFinal answer: [ABCD]"
MAX_LENGTH = 1024  # the default, the whole context, would reserve a cache of 4.7 GB


class Genai(Peer):
    """A model built by onnxruntime-genai's builder."""

    def __init__(self, request: Request) -> None:
        config = og.Config(request.model)
        options = {"intra_op_num_threads": request.threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._model = og.Model(config)

    def stream(self, prompt: Sequence[int], count: int, mark: Mark) -> None:
        """Generate greedily."""
        generator = self.generator(guided=False)
        generator.append_tokens(list(prompt))
        for _ in range(count):
            generator.generate_next_token()
            mark()

    def generator(self, *, guided: bool) -> og.Generator:
        """Return a generator, which holds a cache of its own."""
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=MAX_LENGTH, min_length=MAX_LENGTH, do_sample=False)
        if guided:
            params.set_search_options(min_length=0)
            params.set_guidance("regex", OUTPUT, enable_ff_tokens=True)
        return og.Generator(self._model, params)


class GuidedGenai(Genai):
    """Constrained output, with what it forces appended instead of sampled."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._level_ids = request.level_ids
        self._prefix_length = request.prefix_length if "rewind" in request.option else 0
        self._prefix: tuple[int, ...] = ()
        self._kept: og.Generator | None = None

    def question(self, prompt: Sequence[int], mark: Mark) -> None:
        """Generate until one level is left, then until the letter is there."""
        generator = self._prefixed(prompt)
        generator.append_tokens(list(prompt[self._prefix_length :]))
        self._generate_to_level(generator, len(prompt))
        mark()
        level = self._possible(generator, len(prompt))[0]
        while len(generator.get_sequence(0)) < (
            len(prompt) + len(level) + LETTER_TOKENS - DECISION_TOKENS
        ):
            generator.generate_next_token()
        mark()

    def _prefixed(self, prompt: Sequence[int]) -> og.Generator:
        """Return a generator that holds the prompt's constant prefix, if that is to be kept."""
        if not self._prefix_length:
            return self.generator(guided=True)
        if self._kept is None:
            self._kept = self.generator(guided=True)
            self._kept.append_tokens(list(prompt[: self._prefix_length]))
        else:
            self._kept.rewind_to(self._prefix_length)
        return self._kept

    def _generate_to_level(self, generator: og.Generator, start: int) -> None:
        while len(self._possible(generator, start)) > 1:
            generator.generate_next_token()

    def _possible(self, generator: og.Generator, start: int) -> list[list[int]]:
        written = list(generator.get_sequence(0))[start:]
        return [ids for ids in self._level_ids if ids[: len(written)] == written[: len(ids)]]


def load(request: Request) -> Peer:
    """Load the model."""
    return GuidedGenai(request) if request.option.startswith("guided") else Genai(request)


if __name__ == "__main__":
    run(load)
