"""Making text from outside safe to print on a terminal.

A name in a manifest, a server's message or an answer may hold control characters, and a terminal
obeys them: they move the cursor, rewrite what was said before, or set the window's title.
"""

import unicodedata

_KEPT_IN_TEXT = "\n\t"


def printable_name(name: str) -> str:
    """Return a name on one line, with invisible characters escaped as Python does."""
    return "".join(char if char.isprintable() else _escaped(char) for char in name)


def printable_text(text: str) -> str:
    """Return text of several lines with control characters escaped, except tabs and line breaks.

    Joiners and direction marks belong to the text and stay.
    """
    return "".join(_escaped(char) if _is_control(char) else char for char in text)


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs") and char not in _KEPT_IN_TEXT


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
