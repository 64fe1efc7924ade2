"""Added tokens: which of them a text may become, and which only the chat template may write.

A tokenizer's added tokens are of two kinds, and nothing in `tokenizer.json` tells them apart for
certain: `<think>` and `<tool_call>` are not `special` in Qwen's. So a token is a **control token**
if it is special, or if angle or square brackets enclose it. Typed by a user it stays text. Every
other added token is an ordinary word that the vocabulary was extended by, and text becomes it as
with transformers.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BRACKETS = ("<>", "[]")


def is_control(content: str, *, special: bool) -> bool:
    """Return whether an added token is one that no text may become."""
    bare = content.strip()
    enclosed = len(bare) > 2 and bare[0] + bare[-1] in _BRACKETS
    return special or enclosed


def ordinary_words(added_tokens: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the added tokens that are no control tokens, as `tokenizer.json` describes them."""
    return [
        token
        for token in added_tokens
        if not is_control(token["content"], special=token["special"])
    ]


def word_ids(tokenizer: "Tokenizer", words: Iterable[dict[str, Any]]) -> dict[int, int]:
    """Return the ids of ordinary words by those that the library gave them.

    It numbers added tokens as they come, so anew where the control tokens before them are missing.
    """
    found = ((tokenizer.token_to_id(word["content"]), word["id"]) for word in words)
    return {given: token_id for given, token_id in found if given is not None}
