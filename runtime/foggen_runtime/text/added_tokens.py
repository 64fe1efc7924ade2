"""Added tokens: which of them text may turn into, and which only the chat template may write.

A tokenizer's added tokens are of two kinds, and nothing in `tokenizer.json` reliably tells them
apart: `<think>` and `<tool_call>` are not `special` in Qwen's. So we take a token as a **control
token** if it is special or stands in angle or square brackets. Typed by a user, it stays text.
Every other added token is an ordinary word that was added to the vocabulary, and text turns into it
as with transformers.
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
        special: Whether it never stands for text.
        single_word: Whether it must not match inside a word.
        lstrip: Whether it swallows the white space before it.
        rstrip: Whether it swallows the white space after it.
        normalized: Whether it is matched in normalized text.
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
        """Whether text must never turn into it."""
        return is_control(self.content, special=self.special)


def is_control(content: str, *, special: bool) -> bool:
    """Return whether an added token is one that text must never turn into."""
    bare = content.strip()
    enclosed = len(bare) > 2 and bare[0] + bare[-1] in _BRACKETS
    return special or enclosed


class WordFinder:
    """Finds added words in a text before it is split; the longest if several begin at one place."""

    def __init__(self, words: Iterable[AddedToken], spelled: Callable[[str], str] = str) -> None:
        """Prepare to find words.

        Args:
            words: Ordinary words.
            spelled: Returns a word as the text spells it.
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
