"""Finding the option letter in an answer."""

import re

_ALONE = re.compile(r"\W*([A-Z])\s*(?:[).:,*\n]|$)")
# At a line's start, or after a space so that options may follow each other on one line.
_OPTION = re.compile(r"(?:^|\s)\(?([A-Z])[).:](?=\s)")
_STATED = re.compile(r"(?i:answer(?:\s+is)?)\s*:?\s*\W*([A-Z])\b")


def parse_choice(answer: str) -> str | None:
    """Return the option letter an answer starts with or states; None when it has none.

    `B`, `B) Paris` and `The answer is B.` all give B.
    """
    stated = _ALONE.match(answer) or _STATED.search(answer)
    return stated.group(1) if stated else None


def question_options(question: str) -> tuple[str, ...]:
    """Return the option letters of a question, e.g. A, B, C of lines such as `A) Paris`."""
    return tuple(dict.fromkeys(_OPTION.findall(question)))
