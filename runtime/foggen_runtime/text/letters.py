"""The tokens an option letter may be written with, where the answer begins."""

from collections.abc import Callable, Sequence

# Some models are tuned to write `answer: B`, others `answer:B` or a letter on the next line.
_LEADS = ("", " ")


def letter_ids(
    encode: Callable[[str], Sequence[int]],
    before: str,
    prefix_ids: Sequence[int],
    letter: str,
) -> tuple[int, ...]:
    """Return the tokens that write a letter, bare or after a space, right after an answer prefix.

    Args:
        encode: Gives the ids of text.
        before: Text that ends with the answer prefix.
        prefix_ids: The ids of the answer prefix, as it is written there.
        letter: The letter.

    Returns:
        Ids in ascending order; none where the letter takes several tokens.
    """
    found = set()
    for lead in _LEADS:
        *start, last = encode(f"{before}{lead}{letter}")
        if start[-len(prefix_ids) :] == list(prefix_ids):
            found.add(last)
    # In `:C` both may be one token, but once the colon is written only the letter can follow.
    alone = encode(letter)
    if len(alone) == 1:
        found.update(alone)
    return tuple(sorted(found))
