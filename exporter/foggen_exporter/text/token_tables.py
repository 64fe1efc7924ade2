"""The tokenizer's vocabulary as arrays, so that a device need not parse it at every start."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save
from tokenizers import pre_tokenizers

from foggen_runtime.text.byte_pairs import TokenTables

# Settings of a BPE model that change what merges give, and what they are where they change nothing.
_PLAIN: dict[str, tuple[object, ...]] = {
    "dropout": (None, 0.0),
    "unk_token": (None,),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (False, None),
    "ignore_merges": (False, None),
}


def token_tables(document: dict[str, Any]) -> TokenTables | None:
    """Return the arrays of a parsed `tokenizer.json`; None unless it is plain byte-level BPE."""
    model = document["model"]
    letters = set(pre_tokenizers.ByteLevel.alphabet())
    if not (_is_plain(model) and _ends_in_bytes(document) and letters <= set(model["vocab"])):
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
    return TokenTables(
        pairs=np.array(pairs, np.uint64),
        ranks=np.array([merges[pair][0] for pair in pairs], np.uint32),
        merged=np.array([merges[pair][1] for pair in pairs], np.uint32),
        text=np.frombuffer(b"".join(spellings), np.uint8),
        ends=np.cumsum([len(spelling) for spelling in spellings], dtype=np.uint32),
        settings=_settings(document, {letter: vocabulary[letter] for letter in sorted(letters)}),
    )


def write_tables(tables: TokenTables, path: Path) -> None:
    """Write the arrays where `TokenTables.map` finds them."""
    # `save_file` would keep it from everybody but its owner, whatever the umask says.
    path.write_bytes(save(vars(tables)))


def _is_plain(model: dict[str, Any]) -> bool:
    plain = all(model.get(name) in allowed for name, allowed in _PLAIN.items())
    return model.get("type") == "BPE" and plain


def _ends_in_bytes(document: dict[str, Any]) -> bool:
    """Whether the last thing done to a word is to spell its bytes as letters."""
    step = document["pre_tokenizer"] or {}
    steps = step.get("pretokenizers", [step])
    return bool(steps) and steps[-1].get("type") == "ByteLevel"


def _settings(document: dict[str, Any], letters: dict[str, int]) -> npt.NDArray[np.uint8]:
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
        "letters": letters,
    }
    return np.frombuffer(json.dumps(settings).encode(), np.uint8)
