"""The tokens that may spell an option letter where the answer begins."""

from collections.abc import Callable, Sequence

# Some models are tuned to write `answer: B`, others `answer:B`, or the letter on the next line.
_LEADS = ("", " ")


def letter_ids(
    encode: Callable[[str], Sequence[int]],
    before: str,
    prefix_ids: Sequence[int],
    letter: str,
) -> tuple[int, ...]:
    """Return the tokens that spell a letter, bare or after a space, right after an answer prefix.

    Args:
        encode: Returns the ids of a text.
        before: A text that ends with the answer prefix.
        prefix_ids: The ids of the answer prefix at that place.
        letter: The letter.

    Returns:
        Ids in ascending order; none if the letter takes several tokens.
    """
    found = set()
    for lead in _LEADS:
        *start, last = encode(f"{before}{lead}{letter}")
        if start[-len(prefix_ids) :] == list(prefix_ids):
            found.add(last)
    # `:C` may be one token, but here the colon is already written, so only the letter can follow.
    alone = encode(letter)
    if len(alone) == 1:
        found.update(alone)
    return tuple(sorted(found))
