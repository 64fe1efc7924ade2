"""Added tokens: which of them a text may become, and which only the chat template may write.

A tokenizer's added tokens are of two kinds, and nothing in `tokenizer.json` tells them apart for
certain: `<think>` and `<tool_call>` are not `special` in Qwen's. So a token is a **control token**
if it is special, or if angle or square brackets enclose it. Typed by a user it stays text. Every
other added token is an ordinary word that the vocabulary was extended by, and text becomes it as
with transformers.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import regex

from foggen_runtime.text.splitting import LATER_LETTERS

_BRACKETS = ("<>", "[]")
_WORD_CHARACTER = rf"(?V1)[\w--[{LATER_LETTERS}]]"


@dataclass(frozen=True)
class AddedToken:
    """A token outside the model's own vocabulary, as `tokenizer.json` describes it.

    Attributes:
        id: Its id.
        content: Its text.
        special: Whether it is no part of any text.
        single_word: Whether it is not looked for inside a word.
        lstrip: Whether it takes in the white space before it.
        rstrip: Whether it takes in the white space after it.
        normalized: Whether it is looked for in normalized text.
    """

    id: int
    content: str
    special: bool
    single_word: bool
    lstrip: bool
    rstrip: bool
    normalized: bool

    @property
    def is_control(self) -> bool:
        """Whether no text may become it."""
        return is_control(self.content, special=self.special)


def is_control(content: str, *, special: bool) -> bool:
    """Return whether an added token is one that no text may become."""
    bare = content.strip()
    enclosed = len(bare) > 2 and bare[0] + bare[-1] in _BRACKETS
    return special or enclosed


class WordFinder:
    """Finds whole words in a text before it is cut up; the longest where several begin."""

    def __init__(self, words: Iterable[AddedToken], spelled: Callable[[str], str] = str) -> None:
        """Take the words.

        Args:
            words: Ordinary words.
            spelled: Gives a word as the text has it.
        """
        self._words = {spelled(word.content): word for word in words if word.content}
        longest_first = sorted(self._words, key=len, reverse=True)
        self._pattern = "|".join(map(regex.escape, longest_first)) or "(?!)"

    def parts(self, text: str) -> Iterator[AddedToken | str]:
        """Yield the words, and the text between them."""
        given = 0
        for match in regex.finditer(self._pattern, text):
            word = self._words[match[0]]
            start, end = match.span()
            if word.single_word and _is_inside_word(text, start, end):
                continue
            while word.lstrip and start > given and _is_space(text, start - 1):
                start -= 1
            if given < start:
                yield text[given:start]
            yield word
            while word.rstrip and _is_space(text, end):
                end += 1
            given = end
        if given < len(text):
            yield text[given:]


def _is_inside_word(text: str, start: int, end: int) -> bool:
    around = text[max(start - 1, 0) : start] + text[end : end + 1]
    return regex.search(_WORD_CHARACTER, around) is not None


def _is_space(text: str, at: int) -> bool:
    return regex.match(r"\s", text, pos=at) is not None
