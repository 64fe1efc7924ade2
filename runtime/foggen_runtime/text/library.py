"""Tokenizers that are not byte-level BPE, read by the `tokenizers` library."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from foggen_runtime.errors import ConfigError
from foggen_runtime.text.added_tokens import AddedToken, is_control

_ADDED_TOKENS = re.compile(r'"added_tokens"\s*:\s*(?=\[)')
_HEAD_CHARACTERS = 1 << 16


class LibraryTokenizer:
    """Text to ids and back, by a `tokenizer.json`.

    Attributes:
        added_tokens: All added tokens.
    """

    def __init__(self, text: str) -> None:
        """Read the file's text.

        Raises:
            ConfigError: The library is not installed.
            Exception: The library cannot read it.
        """
        try:
            from tokenizers import Tokenizer
        except ModuleNotFoundError:
            raise ConfigError(
                "tokenizer: is not byte-level BPE, so it needs the tokenizers library: pip "
                "install 'foggen[tokenizers]'"
            ) from None
        plain, added = _without_control_tokens(text)
        self.added_tokens = [AddedToken(**token) for token in added]
        self._tokenizer = Tokenizer.from_str(plain)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # The library numbers added tokens in order, so those after a removed control token get
        # other ids.
        self._words = {
            self._tokenizer.token_to_id(token.content): token.id
            for token in self.added_tokens
            if not token.is_control
        }

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a file; errors are the constructor's and those of reading."""
        return cls(path.read_text(encoding="utf-8-sig"))

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self._words.get(token_id, token_id) for token_id in ids]

    def decode(self, ids: Sequence[int], added: Mapping[int, str | None]) -> str:
        """Return the text of ids that stand for a token."""
        spelled = (added[one] if one in added else self._tokenizer.id_to_token(one) for one in ids)
        tokens = [token for token in spelled if token is not None]
        decoder = self._tokenizer.decoder
        return " ".join(tokens) if decoder is None else decoder.decode(tokens)


def _without_control_tokens(text: str) -> tuple[str, list[dict[str, Any]]]:
    """Leave only ordinary words among the added tokens in a tokenizer's JSON text.

    Their list comes before the vocabulary, so the megabytes after it are not parsed here.
    """
    if match := _ADDED_TOKENS.search(text, 0, _HEAD_CHARACTERS):
        added, end = json.JSONDecoder().raw_decode(text, match.end())
        words = json.dumps(_ordinary(added))
        return f"{text[: match.end()]}{words}{text[end:]}", added
    document = json.loads(text)
    added = document["added_tokens"]
    document["added_tokens"] = _ordinary(added)
    return json.dumps(document), added


def _ordinary(added: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [token for token in added if not is_control(token["content"], special=token["special"])]
