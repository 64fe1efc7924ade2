"""GGUF files, written with llama.cpp's own package: of checkpoints, and of small random models.

What its converter does to weights (`convert_hf_to_gguf.py`) is done here in the converter's words,
so that reading them back is held against something other than itself.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType
from tokenizers import Tokenizer

from foggen_runtime.arrays import Float32

Metadata = Mapping[str, object]

F32 = GGMLQuantizationType.F32
_MOST_LAYERS = 8
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class GgufModel:
    """What goes into a file.

    Attributes:
        architecture: llama.cpp's name.
        metadata: Without `general.architecture`.
        tensors: As transformers names and orders them, but for those of `extra`.
        kind: How matrices are stored; vectors always in F32.
        extra: Tensors that only llama.cpp knows.
    """

    architecture: str
    metadata: Metadata
    tensors: Mapping[str, Float32]
    kind: GGMLQuantizationType = F32
    extra: Mapping[str, Float32] = field(default_factory=dict)

    def but(self, **changes: object) -> "GgufModel":
        """Return one with other metadata: `__` stands for a full stop, and None removes a key."""
        named = {key.replace("__", "."): value for key, value in changes.items()}
        merged = {**self.metadata, **named}
        kept = {key: value for key, value in merged.items() if value is not None}
        return replace(self, metadata=kept)

    def write(self, path: Path) -> Path:
        """Write the file; return its path."""
        writer = gguf.GGUFWriter(path, self.architecture)
        for key, value in self.metadata.items():
            _add(writer, key, value)
        names = self._names()
        for name, tensor in self.tensors.items():
            _add_tensor(writer, names[name], self._converted(name, tensor), self.kind)
        for name, tensor in self.extra.items():
            _add_tensor(writer, name, tensor, F32)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def _names(self) -> dict[str, str]:
        architecture = next(
            key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == self.architecture
        )
        mapping = gguf.get_tensor_name_map(architecture, _MOST_LAYERS)
        names = {}
        for name in self.tensors:
            module, _, kind = name.rpartition(".")
            names[name] = f"{mapping.get_name(module)}.{kind}"
        return names

    def _converted(self, name: str, tensor: Float32) -> Float32:
        if self.architecture == "gemma3" and name.endswith("norm.weight"):
            return tensor + np.float32(1)
        if self.architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            key = "head_count" if "q_proj" in name else "head_count_kv"
            heads = self.metadata[f"llama.attention.{key}"]
            assert isinstance(heads, int)
            halves = tensor.reshape(heads, 2, len(tensor) // heads // 2, *tensor.shape[1:])
            return halves.swapaxes(1, 2).reshape(tensor.shape)
        return tensor


def byte_level_metadata(backend: Tokenizer, pre: str) -> dict[str, object]:
    """Return what the converter says of a byte-level tokenizer."""
    document = json.loads(backend.to_str())
    added = {token["id"]: token for token in document["added_tokens"]}
    size = backend.get_vocab_size(with_added_tokens=True)
    kinds = [
        NORMAL if i not in added else CONTROL if added[i]["special"] else USER_DEFINED
        for i in range(size)
    ]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [backend.id_to_token(i) for i in range(size)],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [" ".join(merge) for merge in document["model"]["merges"]],
    }


def _add(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        assert isinstance(value, list)
        writer.add_array(key, value)


def _add_tensor(
    writer: gguf.GGUFWriter, name: str, tensor: Float32, kind: GGMLQuantizationType
) -> None:
    stored: npt.NDArray[np.generic] = np.ascontiguousarray(tensor, np.float32)
    if tensor.ndim == 1:
        kind = F32
    if kind != F32:
        stored = gguf.quants.quantize(stored, kind)
    writer.add_tensor(name, stored, raw_dtype=kind)
