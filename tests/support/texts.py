"""Texts that tell one tokenizer from another: all scripts, and what goes wrong at the seams."""

import random
import sys
from collections.abc import Iterable, Iterator, Sequence

# Where a script's characters are, with what is between them.
SCRIPTS = {
    "Latin": range(0x41, 0x250),
    "Greek": range(0x370, 0x400),
    "Cyrillic": range(0x400, 0x530),
    "Armenian": range(0x531, 0x590),
    "Hebrew": range(0x591, 0x5F5),
    "Arabic": range(0x600, 0x700),
    "Syriac": range(0x700, 0x750),
    "Thaana": range(0x780, 0x7B2),
    "Nko": range(0x7C0, 0x800),
    "Arabic Extended": range(0x870, 0x900),
    "Devanagari": range(0x900, 0x980),
    "Bengali": range(0x980, 0xA00),
    "Gurmukhi": range(0xA01, 0xA77),
    "Gujarati": range(0xA81, 0xB00),
    "Oriya": range(0xB01, 0xB78),
    "Tamil": range(0xB82, 0xBFB),
    "Telugu": range(0xC00, 0xC80),
    "Kannada": range(0xC80, 0xCF4),
    "Malayalam": range(0xD00, 0xD80),
    "Sinhala": range(0xD81, 0xDF5),
    "Thai": range(0xE01, 0xE5C),
    "Lao": range(0xE81, 0xEE0),
    "Tibetan": range(0xF00, 0xFDB),
    "Myanmar": range(0x1000, 0x10A0),
    "Georgian": range(0x10A0, 0x1100),
    "Ethiopic": range(0x1200, 0x139A),
    "Cherokee": range(0x13A0, 0x13FE),
    "Khmer": range(0x1780, 0x17FA),
    "Mongolian": range(0x1800, 0x18AB),
    "Greek Extended": range(0x1F00, 0x2000),
    "Hiragana": range(0x3041, 0x30A0),
    "Katakana": range(0x30A0, 0x3100),
    "Hangul": range(0xAC00, 0xD7A4),
    "Hangul Jamo": range(0x1100, 0x1200),
    "Han": range(0x4E00, 0xA000),
    "Han Extension B": range(0x20000, 0x2A6E0),
    "Compatibility Han": range(0xF900, 0xFB00),
    "Arabic Forms": range(0xFB50, 0xFE00),
    "Full Width": range(0xFF01, 0xFFEF),
    "Gothic": range(0x10330, 0x1034B),
    "Cuneiform": range(0x12000, 0x12550),
    "Kirat Rai": range(0x16D40, 0x16D7A),
    "Mathematical": range(0x1D400, 0x1D800),
    "Adlam": range(0x1E900, 0x1E960),
    "Emoji": range(0x1F300, 0x1FB00),
}
_MARKS = (range(0x300, 0x370), range(0x1AB0, 0x1B00), range(0x1DC0, 0x1E00), range(0x20D0, 0x2100))
_EVERYTHING = [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]
_CONTROL_TOKENS = ("<|im_end|>", "<|im_start|>", "<think>", "</think>", "<|endoftext|>", "<empty>")
_QUIRKS = (
    *("'s", "'S", "'\u017f", "'LL", "'re", "\u2019ve", "'", "''d", "don't", "I'M", "O'Neil"),
    *("\r\n", "\n", "\r", "\n\n\n", "\t", " \n ", "\u2028", "\x85", "\u00a0", "\u3000", "\x1c"),
    *(" ", "  ", "   ", " " * 17, " " * 80, "\t" * 9, "\r\n" * 6, " \u3000" * 4),
    *("0", "42", "1234567", "3.14", "\u0663\u0664", "\u0967\u0968", "\u2167", "\u00bd", "\u2075"),
    *("\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd"),
    *("\U0001f1f0\U0001f1ff", "\ufe0f", "\u200d", "\u200b", "\ufeff", "\u00ad", "\ufffd"),
    *("\uffff", "\ufffe", "\x00", "\x7f", "!?", "...", "\u2026", "//", "\\", "_", "#", "$x^2$"),
    *("\u4e2d\u3002", "<", "|>", "{}", "a_b", "\u212b", "\u1e9b\u0323", "\ufb01", "\u0958"),
    *("\u1100\u1161\u11a8", "\uac01", "\u0344", "\u0f73"),
)


def scripts_of(texts: Iterable[str]) -> set[str]:
    """Return which of the scripts occur."""
    codes = set(map(ord, set().union(*texts)))
    return {script for script, place in SCRIPTS.items() if not codes.isdisjoint(place)}


def texts_of_all_scripts(count: int, seed: int) -> list[str]:
    """Return that many texts, the same for the same seed."""
    chance = random.Random(seed)
    return ["".join(_pieces(chance)) for _ in range(count)]


def _pieces(chance: random.Random) -> Iterator[str]:
    scripts = chance.sample(list(SCRIPTS.values()), 3)
    for _ in range(chance.randint(1, 12)):
        kind = chance.random()
        if kind < 0.5:
            yield chance.choice(("", "", " ")) + _word(chance, chance.choice(scripts), 7)
        elif kind < 0.75:
            yield chance.choice(_QUIRKS)
        elif kind < 0.85:  # in any order, after anything
            yield _word(chance, chance.choice(_MARKS), 4)
        elif kind < 0.95:
            yield _word(chance, _EVERYTHING, 3)
        else:
            yield chance.choice(_CONTROL_TOKENS)


def _word(chance: random.Random, characters: Sequence[int], most: int) -> str:
    return "".join(map(chr, chance.choices(characters, k=chance.randint(1, most))))
