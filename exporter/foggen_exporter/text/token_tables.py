"""The tokenizer's vocabulary as arrays, so that a device does not parse it at every start."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from foggen_runtime.text.byte_pairs import BYTE_LETTERS, BytePairEncoder, TokenTables, token_bytes
from foggen_runtime.text.splitting import Pipeline, UnknownStepError

# Settings of a BPE model that change the result of merging, and their neutral values.
_PLAIN: dict[str, tuple[object, ...]] = {
    "dropout": (None, 0.0),
    "unk_token": (None,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (False, None),
}


def token_tables(document: dict[str, Any]) -> TokenTables | None:
    """Return the arrays of a parsed `tokenizer.json`; None unless it is plain byte-level BPE."""
    model = document["model"]
    if not (_is_plain(model) and _is_read(document)):
        return None
    vocabulary: dict[str, int] = model["vocab"]
    merges: dict[int, tuple[int, int]] = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        pair = vocabulary[left] << 32 | vocabulary[right]
        merges[pair] = rank, vocabulary[left + right]
    pairs = sorted(merges)
    spelled = {token_id: token.encode() for token, token_id in vocabulary.items()}
    spellings = [spelled.get(token_id, b"") for token_id in range(max(spelled) + 1)]
    tables = TokenTables(
        pairs=np.array(pairs, np.uint64),
        ranks=np.array([merges[pair][0] for pair in pairs], np.uint32),
        merged=np.array([merges[pair][1] for pair in pairs], np.uint32),
        text=np.frombuffer(b"".join(spellings), np.uint8),
        ends=np.cumsum([len(spelling) for spelling in spellings], dtype=np.uint32),
        settings=_settings(document, {}),
    )
    if not model.get("ignore_merges"):
        return tables
    return replace(tables, settings=_settings(document, {"whole": _whole_words(document, tables)}))


def write_tables(tables: TokenTables, path: Path) -> None:
    """Write the arrays where `TokenTables.map` finds them."""
    # `save_file` would make it readable by its owner only, whatever the umask.
    path.write_bytes(save(vars(tables)))


def _is_plain(model: dict[str, Any]) -> bool:
    plain = all(model.get(name) in allowed for name, allowed in _PLAIN.items())
    return model.get("type") == "BPE" and plain


def _is_read(document: dict[str, Any]) -> bool:
    """Whether the runtime implements what happens to a text before and after merging."""
    try:
        Pipeline.read(document)
    except UnknownStepError:
        return False
    return True


def _whole_words(document: dict[str, Any], tables: TokenTables) -> dict[str, int]:
    """Return the words that are tokens but that merging turns into something else.

    With them, a device need not look up each word: merging gives nearly every token itself.
    """
    vocabulary: dict[str, int] = document["model"]["vocab"]
    encoder = BytePairEncoder(tables, _letters(vocabulary))
    whole = {}
    for token, token_id in vocabulary.items():
        if not set(token) <= set(BYTE_LETTERS):
            continue
        with suppress(UnicodeDecodeError):  # part of a character, so not a word
            word = token_bytes(token).decode()
            if encoder.encode(word) != (token_id,):
                whole[word] = token_id
    return whole


def _settings(document: dict[str, Any], more: dict[str, Any]) -> npt.NDArray[np.uint8]:
    """Return the rest of the document and the letters' ids as JSON."""
    empty: dict[str, Any] = {
        "added_tokens": [],
        "truncation": None,
        "padding": None,
        "post_processor": None,
    }
    model = {"type": "BPE", "vocab": {}, "merges": []}
    settings = {
        "pipeline": {**document, **empty, "model": model},
        "added_tokens": document["added_tokens"],
        "letters": _letters(document["model"]["vocab"]),
        **more,
    }
    return np.frombuffer(json.dumps(settings).encode(), np.uint8)


def _letters(vocabulary: dict[str, int]) -> dict[str, int]:
    return {letter: vocabulary[letter] for letter in sorted(BYTE_LETTERS) if letter in vocabulary}
