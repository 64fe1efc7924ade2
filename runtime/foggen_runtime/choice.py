"""Finding the option letter in an answer."""

import re
from collections.abc import Collection, Iterable

_ALONE = re.compile(r"\W*([A-Z])\s*(?:[).:,*\n]|$)")
# At a line's start, or after a space so that options may follow each other on one line.
_OPTION = re.compile(r"(?:^|\s)\(?([A-Z])[).:](?=\s)")
# From the surest to the vaguest; of several places, the last is what the text ends with.
_STATED = tuple(
    re.compile(pattern)
    for pattern in (
        r"\\boxed\{(?:\\text\{)?\W?([A-Z])\W?\}",
        r"(?i:answer(?:\s+is)?)\s*:?\s*\W*([A-Z])\b",
        r"(?i:(?:option|choice)(?:\s+is)?)\s*:?\s*\W*([A-Z])\b",
    )
)
# A letter by itself; `A` before a word in lower case is an article.
_BY_ITSELF = re.compile(r"(?<![\w'\u2019])(?!A\s+[a-z])([A-Z])(?![\w'\u2019])")


def parse_choice(answer: str, options: Collection[str] = ()) -> str | None:
    """Return the option letter an answer starts with or states; None when it has none.

    `B`, `B) Paris` and `The answer is B.` all give B; where the options are known, so does any text
    in which no other letter of theirs stands by itself, such as `It is B`.

    Args:
        answer: The text.
        options: The letters there are, if that is known: no other one is returned.
    """
    alone = _ALONE.match(answer)
    found = [alone.group(1)] if alone else []
    for pattern in _STATED:
        found.extend(reversed(pattern.findall(answer)))
    named = set(_BY_ITSELF.findall(answer)).intersection(options)
    if len(named) == 1:
        found.extend(named)
    return next((letter for letter in found if not options or letter in options), None)


def question_options(question: str) -> tuple[str, ...]:
    """Return the option letters of a question, e.g. A, B, C of lines such as `A) Paris`.

    They follow each other in the alphabet, mostly from A, and are at least two: an initial, as of
    E. coli, or a unit, as in 1.1 V, is none.
    """
    found = _OPTION.findall(question)
    from_a = _run(found, "A")
    runs = [from_a] if len(from_a) > 1 else [_run(found, first) for first in found]
    longest = max(runs, key=len, default=())
    return longest if len(longest) > 1 else ()


def _run(letters: Iterable[str], first: str) -> tuple[str, ...]:
    """Return the letters that follow each other in the alphabet, from the first given."""
    run: list[str] = []
    for letter in letters:
        if ord(letter) == ord(first) + len(run):
            run.append(letter)
    return tuple(run)
