"""Splitting text into the words within which byte pairs merge, where `tokenizers` does.

The patterns are those in `tokenizer.json`. They are written for Oniguruma, so we accept only syntax
that `regex` reads the same way, and do not count letters that are newer than Oniguruma's version of
Unicode.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, Self

import regex

from foggen_runtime.text.composing import composed

# Compiled when first needed: English text never needs them, and starting should be quick.
# Letters, marks and numbers of Unicode 17 and 18, which Oniguruma (Unicode 16) does not know.
LATER_LETTERS = (
    r"\u0558\u058B\u058C\u05C8\u05C9\u088F\u0B53\u0B54\u0C5C\u0CDC\u1ACF-\u1AF0\u208F\u209D-\u209F"
    r"\uA7CE\uA7CF\uA7D2\uA7D4\uA7DD-\uA7F1\uAB6C\uAB6D\U000107BB-\U000107BF\U00010940-\U00010959"
    r"\U00010EC5-\U00010EFB\U00011B0A-\U00011B67\U00011DB0-\U00011DF1\U0001246F"
    r"\U00012475-\U0001247F\U00012550-\U00012686\U00016EA0-\U00016ED3\U00016FF2-\U00016FF6"
    r"\U000187F8-\U000187FF\U00018CD6-\U00018CDA\U00018D09-\U000191D2\U0001B123-\U0001B128"
    r"\U0001B168\U0001D127\U0001D128\U0001D250-\U0001D281\U0001D6A6\U0001DF1F-\U0001DF24"
    r"\U0001DF2B-\U0001DFFF\U0001E6C0-\U0001E6FF\U0002B73A-\U0002B73F\U0002B81E"
    r"\U0002CEA2-\U0002CEAD\U000323B0-\U0003FC3F"
)
_LATER_LETTER = f"[{LATER_LETTERS}]"
_NOTHING = "\uffff"  # never a letter, in no version
# `Digits` asks Rust, which is at Unicode 17.
_NUMBER = r"[\p{N}--[\U0001246F-\U00012686]]"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_READ_ALIKE = re.compile(
    r"(?: \\p\{[LMN]\} | \\[sSrn] | [\w\ ',] | \[\^? | [\]|)] | \(\?[:!]"
    r"| \(\?i:[demlrstv'|\[\]]+\) | (?:[?*+] | \{\d+(?:,\d*)?\})(?![?*+{]) )+",
    re.VERBOSE | re.ASCII,
)


class UnknownStepError(ValueError):
    """A `tokenizer.json` asks for something that only the `tokenizers` library does."""


@dataclass(frozen=True)
class Pipeline:
    """What happens to a text before its words are merged.

    Attributes:
        normalized: Normalizes a text.
        cuts: Each splits the words that the one before left.
    """

    normalized: Callable[[str], str]
    cuts: Sequence[Callable[[str], Iterable[str]]]

    @classmethod
    def read(cls, document: dict[str, Any]) -> Self:
        """Read what a `tokenizer.json` says besides its model.

        Raises:
            UnknownStepError: It is not byte-level BPE of the kind implemented here.
        """
        normalizer, decoder = document["normalizer"], document["decoder"]
        if normalizer not in (None, {"type": "NFC"}):
            raise UnknownStepError(f"normalizer: must be NFC or null, is {normalizer}")
        if decoder is None or decoder["type"] != "ByteLevel":
            raise UnknownStepError(f"decoder: must be ByteLevel, is {decoder}")
        step = document["pre_tokenizer"] or {}
        *steps, last = step.get("pretokenizers", [step]) or [None]
        cuts = [*map(_cut, steps), *_cuts_into_bytes(last)]
        return cls(composed if normalizer else str, cuts)

    def words(self, text: str) -> list[str]:
        """Return the words of a normalized text; joined, they are the text."""
        words = [text]
        for cut in self.cuts:
            words = [piece for word in words for piece in cut(word) if piece]
        return words


def _cut(step: dict[str, Any]) -> Callable[[str], Iterable[str]]:
    """Return what a step before the last one does."""
    match step:
        case {"type": "Digits", "individual_digits": bool(each)}:
            return regex.compile(f"(?V1)({_NUMBER}{'' if each else '+'})").split
        case {
            "type": "Split",
            "pattern": {"Regex": str(pattern)},
            "behavior": "Isolated",
            "invert": False,
        } if _READ_ALIKE.fullmatch(pattern):
            return _cut_by(pattern)
    raise UnknownStepError(f"pre_tokenizer: must not have a step {step}")


def _cuts_into_bytes(step: dict[str, Any] | None) -> list[Callable[[str], Iterable[str]]]:
    """Return what the last step does, except for spelling bytes as letters."""
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}:
            return []
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return [_cut_by(_GPT2)]
    raise UnknownStepError(f"pre_tokenizer: must end with ByteLevel, ends with {step or None}")


def _cut_by(pattern: str) -> Callable[[str], list[str]]:
    compiled = regex.compile(f"({pattern})")
    if compiled.fullmatch(""):
        raise UnknownStepError(
            f"pre_tokenizer: must not split by a pattern that matches nothing, {pattern} does"
        )
    return partial(_matches_and_gaps, compiled)


def _matches_and_gaps(pattern: "regex.Pattern[str]", text: str) -> list[str]:
    # Searching for each distinct character takes a tenth of the time of checking each place.
    if text.isascii() or not regex.search(_LATER_LETTER, "".join(set(text))):
        return pattern.split(text)
    lengths = map(len, pattern.split(regex.sub(_LATER_LETTER, _NOTHING, text)))
    return [text[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]
