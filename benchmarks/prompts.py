"""Prompts as token ids, distinct and the same for every engine of a round."""

import random

from foggen_runtime.bundle.manifest import PromptInfo

QUESTION_TOKENS = 160
TEXT_TOKENS = 151643  # the ids above are special


class Prompts:
    """Makes prompts of random text; one seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def texts(self, count: int, length: int) -> list[list[int]]:
        """Return prompts of `length` random tokens each."""
        return [self._random.choices(range(TEXT_TOKENS), k=length) for _ in range(count)]

    def questions(self, count: int, prompt: PromptInfo) -> list[list[int]]:
        """Return prompts of 160 tokens: random text between a bundle's prefix and suffix."""
        length = QUESTION_TOKENS - len(prompt.prefix_ids) - len(prompt.suffix_ids)
        return [
            [*prompt.prefix_ids, *text, *prompt.suffix_ids] for text in self.texts(count, length)
        ]
