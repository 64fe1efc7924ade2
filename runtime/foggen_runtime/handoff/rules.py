r"""The regular expressions of a policy: Python's syntax, matched by RE2 in linear time.

RE2's `\w` and `\b` know only ASCII. So that a rule means the same as in Python in any script, it is
translated part by part; what RE2 cannot do in linear time (look-around, back-references) is refused
when the policy is read.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from foggen_runtime.handoff.view import EDGE, View, clusters, seen, without_edges

if TYPE_CHECKING:
    import re2

# Each match may look at the whole rest of a text, so many of them are quadratic.
MOST_PLACES = 1000
_MOST_INSTRUCTIONS = 100_000  # of a compiled rule; matching takes at worst this times the text

_PART = re.compile(
    r"""
    (?P<class>\[\^?\]?(?:\\.|[^\]\\])*\])
    | (?P<group>\(\?P?<\w+>|\(\?[ims-]*:|\(\?[ims-]+\)|\((?!\?))
    | (?P<repeat>[*+?]|\{\d+\}|\{\d*,\d*\})
    | (?P<escape>\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.))
    | (?P<plain>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_CLASS = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)|[^\\]", re.DOTALL)
_REFERENCE = re.compile(r"\\(?:(\d{1,2})|g<(\w+)>|(.))", re.DOTALL)
_CONTROLS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
# Inside a class: escapes that RE2 would limit to ASCII.
_CLASS_ESCAPES = {"w": r"\p{L}\p{N}_", "W": r"\p{M}\p{P}\p{S}\p{Z}\p{C}", "d": "0-9"}
_SEPARATED = f"{EDGE}*"  # what may stand before any character but an ASCII letter or digit


class Rule:
    """A compiled regular expression."""

    def __init__(self, pattern: str) -> None:
        """Compile.

        Raises:
            ValueError: It is not a regular expression, or cannot be matched in linear time.
        """
        import re2  # takes milliseconds; only a policy with rules should pay them

        self._named = _check_syntax(pattern)
        options = re2.Options()
        options.log_errors = False
        try:
            self._compiled: re2._Regexp = re2.compile(_translated(pattern), options)
        except re2.error as error:
            raise ValueError(f"{error} (look-around and the like are not supported)") from error
        if self._compiled.programsize > _MOST_INSTRUCTIONS:
            raise ValueError("it is too large; use + or * in place of a high count such as {1,255}")

    @property
    def groups(self) -> int:
        """How many groups it has."""
        return int(self._compiled.groups)

    def matches(self, view: View) -> bool:
        """Whether it matches anywhere in a text."""
        return self._compiled.search(view.text) is not None

    def first_group(self, view: View) -> str | None:
        """Return the first group of the first match, if there is one."""
        found = self._compiled.search(view.text)
        group = found.group(1) if found else None
        return None if group is None else without_edges(group)

    def replaced(self, view: View, replacement: str) -> str:
        """Return the text as it was typed, except where the rule matches.

        Raises:
            OverflowError: It matches in more than `MOST_PLACES` places.
        """
        pieces = []
        done = 0
        for number, found in enumerate(self._compiled.finditer(view.text), start=1):
            if number > MOST_PLACES:
                raise OverflowError(f"matches in more than {MOST_PLACES} places")
            if found.start() == found.end():
                continue
            start, end = view.typed_span(found.start(), found.end())
            if start < end:
                pieces += [view.typed[done : max(done, start)], self._expanded(found, replacement)]
                done = max(done, end)
        return "".join((*pieces, view.typed[done:]))

    def check_replacement(self, replacement: str) -> None:
        """Raise a ValueError unless the groups that a replacement names exist."""
        names = {number: name for name, number in self._named.items()}
        groups = (names.get(number) for number in range(1, self.groups + 1))
        stand_in = "".join(f"(?P<{name}>)" if name else "()" for name in groups)
        try:
            re.sub(stand_in, replacement, "")
        except (re.error, IndexError) as error:
            raise ValueError(str(error)) from error

    def _expanded(self, found: "re2._Match", replacement: str) -> str:
        def expand(reference: re.Match[str]) -> str:
            number, name, character = reference.groups()
            if character is not None:
                return _CONTROLS.get(character, character)
            group = number or name
            key = int(group) if group.isdecimal() else group
            return without_edges(found.group(key) or "")

        return _REFERENCE.sub(expand, replacement)


@lru_cache(256)
def compiled(pattern: str) -> Rule:
    """Return a rule, compiled once; errors are those of `Rule`."""
    return Rule(pattern)


def _check_syntax(pattern: str) -> dict[str, int]:
    """Return the number of each named group.

    Raises:
        ValueError: Python does not accept it as a regular expression.
    """
    try:
        return dict(re.compile(pattern).groupindex)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from error


def _translated(pattern: str) -> str:
    """Translate a Python pattern for RE2 and the text of a view."""
    characters = (pattern[start:end] for start, end in clusters(pattern))
    pattern = "".join(unicodedata.normalize("NFC", character) for character in characters)
    dots_match_all = re.search(r"\(\?[im]*s", pattern) is not None
    return "".join(_translated_parts(pattern, dots_match_all))


def _translated_parts(pattern: str, dots_match_all: bool) -> Iterator[str]:
    for part in _PART.finditer(pattern):
        text = part.group()
        match part.lastgroup:
            case "class":
                yield _separated(_translated_class(text))
            case "group":
                yield text
            case "repeat":
                yield text.replace("{,", "{0,")
            case "escape":
                yield _translated_escape(text)
            case _ if text == ".":
                yield _separated(f"[^{EDGE}]" if dots_match_all else f"[^\\n{EDGE}]")
            case _ if text == "$":
                # Python's also stands before a line break at the end.
                yield f"(?:{_SEPARATED}\\n??$)"
            case _ if text in "|)^":
                yield text
            case _ if text == "(":
                raise ValueError("look-around, back-references and comments are not supported")
            case _:
                yield _translated_literal(text)


def _translated_escape(text: str) -> str:
    letter = text[1]
    if letter in "xu" and len(text) > 2:
        return _translated_literal(chr(int(text[2:], 16)))
    if letter in _CONTROLS:
        return _translated_literal(_CONTROLS[letter])
    if not letter.isalnum():
        return _translated_literal(letter)
    known = {
        "A": r"\A",
        "Z": f"(?:{_SEPARATED}\\z)",
        "b": f"(?:\\b|{EDGE})",
        "d": "[0-9]",
        "D": _separated(f"[^0-9{EDGE}]"),
        "s": _separated(r"\s"),
        "S": _separated(f"[^\\s{EDGE}]"),
        "w": _separated(f"[{_CLASS_ESCAPES['w']}]"),
        "W": _separated(f"[^{_CLASS_ESCAPES['w']}{EDGE}]"),
    }
    if letter not in known:
        raise ValueError(f"{text} is not supported")
    return known[letter]


def _translated_class(text: str) -> str:
    negated = text.startswith("[^")
    body = text[2:-1] if negated else text[1:-1]
    parts = []
    for token in _IN_CLASS.findall(body):
        if token.startswith("\\"):
            parts.append(_translated_in_class(token))
        elif token in "-":
            parts.append(token)
        else:
            parts.append(_literal_in_class(token))
    return f"[{'^' + EDGE if negated else ''}{''.join(parts)}]"


def _translated_in_class(token: str) -> str:
    letter = token[1]
    if letter in _CLASS_ESCAPES:
        return _CLASS_ESCAPES[letter]
    if letter in "DsS":
        return token
    if letter in "xu" and len(token) > 2:
        return _literal_in_class(chr(int(token[2:], 16)))
    if letter in _CONTROLS or letter == "b":
        return _literal_in_class({**_CONTROLS, "b": "\b"}[letter])
    if letter.isalnum():
        raise ValueError(f"{token} is not supported in [...]")
    return _literal_in_class(letter)


def _literal_in_class(character: str) -> str:
    """Return a class's character as a view has it, if it is a single one there too."""
    normal = seen(character)
    return re.escape(normal if len(normal) == 1 else character)


def _translated_literal(character: str) -> str:
    normal = character if character.isascii() else seen(character)
    parts = [each if _is_ascii_word(each) else _separated(re.escape(each)) for each in normal]
    return parts[0] if len(parts) == 1 else f"(?:{''.join(parts)})"


def _separated(part: str) -> str:
    return f"(?:{_SEPARATED}{part})"


def _is_ascii_word(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "_")
