"""Unicode's form NFC, as `tokenizers` computes it.

Its tables are from Unicode 9, Python's from a newer version. `tokenizers` leaves later characters
out of normalization: such a character stays as it is, and nothing moves past it.
"""

from unicodedata import combining, normalize

import regex

# Everything in Unicode 10 to 18 that is sorted among marks, decomposes or composes. A range may
# include characters that do none of that, but none that already did in Unicode 9.
_LATER = (
    r"([\u05C8\u05C9\u07FD\u0897-\u08D3\u09FE\u0C3C\u0D3B\u0D3C\u0EBA\u1715\u1ABF-\u1AF0"
    r"\u1DF6-\u1DFA\uA82C\U000105C9-\U000105E4\U00010D24-\U00010F85\U00011070\U0001133B"
    r"\U00011383-\U000113D0\U0001145E\U00011839-\U00011A99\U00011D42-\U0001612F"
    r"\U00016D68-\U00016FF1\U0001D127\U0001D128\U0001D250-\U0001D281\U0001E08F-\U0001E6F5])"
)
# Marks, and the three characters that are not marks but decompose into them.
_MANY_MARKS = r"[\P{ccc=0}\u0F73\u0F75\u0F81]{32,}"


def composed(text: str) -> str:
    """Return a text in form NFC."""
    if text.isascii():
        return text
    parts = regex.split(_LATER, text)
    parts[::2] = map(_composed, parts[::2])
    return "".join(parts)


def _composed(text: str) -> str:
    # Python sorts a letter's marks in quadratic time: two seconds for 32,000. So a row of marks
    # longer than any language has is sorted beforehand.
    return normalize("NFC", regex.sub(_MANY_MARKS, lambda marks: _sorted(marks[0]), text))


def _sorted(marks: str) -> str:
    apart = "".join(normalize("NFD", mark) for mark in marks)
    return "".join(sorted(apart, key=combining))
