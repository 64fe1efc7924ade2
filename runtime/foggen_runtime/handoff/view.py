"""A text as the rules of a policy see it, and where each character of it was typed.

One word can be typed in many ways that look the same: with full-width letters, with invisible
characters inside, with an accent as a separate character. A rule sees just one of them.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Self

# Marks where a word with letters beyond ASCII begins or ends, which RE2's `\b` does not see;
# written twice, so that two `\b` in a row find one each. Unicode reserves this code point, so no
# text has it.
EDGE = "\ufdd0"
_EDGES = 2 * EDGE
_BOUNDARY = re.compile(r"(?<!\w)(?=[^\W\x00-\x7f])|(?<=[^\W\x00-\x7f])(?!\w)")
# Python sorts a row of marks in quadratic time; real letters have a few at most (UAX #15, section
# 13, allows 30).
_MARKS = 30
_EXPANSION = 4  # U+FDFA alone becomes 18 characters; what grows more than this is left as it is
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_SELECTORS = "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
_INVISIBLE = frozenset(EDGE + _SELECTORS + "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")


@dataclass(frozen=True)
class View:
    """A text as rules see it.

    Attributes:
        typed: The text itself.
        text: What rules are matched with: each character in Unicode's form NFKC, without
            invisible ones, with ASCII's digits and spaces, and edges where words begin and end.
    """

    typed: str
    text: str
    _boundaries: Sequence[int]  # where in `text`, edges left out, the edges stand
    _starts: Sequence[int]  # for each character of `text`, edges left out: where it was typed
    _ends: Sequence[int]

    @classmethod
    def of(cls, typed: str) -> Self:
        """Make the view of a text in linear time."""
        starts: list[int] = []
        ends: list[int] = []
        pieces: list[str] = []
        for piece, start, end in _pieces(typed):
            pieces.append(piece)
            steady = len(piece) == end - start
            starts.extend(range(start, end) if steady else [start] * len(piece))
            ends.extend(range(start + 1, end + 1) if steady else [end] * len(piece))
        plain = "".join(pieces)
        if plain.isascii():
            return cls(typed, plain, (), starts, ends)
        boundaries = [found.start() for found in _BOUNDARY.finditer(plain)]
        words = (plain[start:end] for start, end in pairwise((0, *boundaries, len(plain))))
        return cls(typed, _EDGES.join(words), boundaries, starts, ends)

    def typed_span(self, start: int, end: int) -> tuple[int, int]:
        """Return where a part of `text` was typed; start and end are equal if it is empty."""
        first, last = self._without_edges(start), self._without_edges(end)
        if first == last:
            return 0, 0
        return self._starts[first], self._ends[last - 1]

    def _without_edges(self, place: int) -> int:
        """Return how many characters, edges not counted, come before a place in `text`."""
        width = len(_EDGES)
        passed = bisect_left(
            range(len(self._boundaries)), place, key=lambda i: self._boundaries[i] + width * i
        )
        if not passed:
            return place
        return max(self._boundaries[passed - 1], place - width * passed)


def without_edges(text: str) -> str:
    """Return a part of a view's text without its edges."""
    return text.replace(EDGE, "")


def clusters(text: str) -> Iterator[tuple[int, int]]:
    """Yield where each character, with the marks that belong to it, begins and ends."""
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and end - start <= _MARKS and _is_attached(text[end]):
            end += 1
        yield start, end
        start = end


@lru_cache(4096)
def seen(cluster: str) -> str:
    """Return what rules see of a character with its marks; nothing if it is invisible."""
    visible = "".join(character for character in cluster if not _is_invisible(character))
    normal = unicodedata.normalize("NFKC", visible)
    if len(normal) > _EXPANSION * len(visible):
        normal = visible
    return "".join(map(_plain, normal))


def _pieces(typed: str) -> Iterator[tuple[str, int, int]]:
    """Yield what rules see of each part, and where it begins and ends; long plain runs as one."""
    characters = {each: seen(each) for each in set(typed) if not _is_seen_as_typed(each)}
    odd = {each for each, form in characters.items() if _is_attached(each) or len(form) != 1}
    alike = {ord(each): form for each, form in characters.items() if each not in odd}
    start = 0
    for place in [i for i, each in enumerate(typed) if each in odd] if odd else []:
        if place < start:
            continue
        # Marks belong to the character before them.
        first = max(start, place - _is_attached(typed[place]))
        end = first + next(clusters(typed[first : first + _MARKS + 1]))[1]
        if start < first:
            yield typed[start:first].translate(alike), start, first
        yield seen(typed[first:end]), first, end
        start = end
    yield typed[start:].translate(alike), start, len(typed)


def _is_seen_as_typed(character: str) -> bool:
    """Whether this is one of the common letters, for which the view is quick."""
    return (
        character.isalpha()
        and character not in _INVISIBLE
        and not "\u1161" <= character <= "\u11ff"
        and unicodedata.is_normalized("NFKC", character)
    )


def _plain(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    if character.isspace():
        return character if character in "\t\n\f\r" else " "
    return _REPLACEMENT if "\ud800" <= character <= "\udfff" else character


def _is_attached(character: str) -> bool:
    """Whether a character may change the one before it: a mark, or part of a Hangul syllable."""
    return not character.isascii() and bool(
        unicodedata.combining(character)
        or "\u1161" <= character <= "\u11ff"
        or _is_invisible(character)
    )


def _is_invisible(character: str) -> bool:
    return not character.isascii() and (
        character in _INVISIBLE or unicodedata.category(character) == "Cf"
    )
