"""The weights of a GGUF file, by the names and in the order that transformers has them."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, quants
from numpy.typing import NDArray

from foggen_exporter.gguf.header import GgufHeader, GgufTensor
from foggen_exporter.weights.tensor_files import (
    DTYPES,
    TensorEntry,
    WeightFiles,
    check_finite,
    rows_per_chunk,
)
from foggen_runtime.arrays import Float32
from foggen_runtime.errors import CheckpointError

Rows = NDArray[np.intp]

_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_OUTSIDE_BLOCKS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_BLOCKS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class GgufWeights:
    """What llama.cpp's converter does to the weights of one family, for it to be undone.

    Attributes:
        in_blocks: Names of the parts of a layer that are not as in most families.
        rotary_pairs: Whether the rows of queries and keys are sorted for rotary embeddings that
            turn neighbours, where transformers turns the halves of a head.
        gain_offset: What is added to the gains of norms.
        extra: Tensors that transformers has as figures in `config.json`.
    """

    in_blocks: Mapping[str, str]
    rotary_pairs: bool = False
    gain_offset: float = 0.0
    extra: tuple[str, ...] = ()

    def name(self, stored: str) -> str:
        """Return a tensor's name in transformers; as it is where it has none."""
        if block := _BLOCK.fullmatch(stored):
            layer, part, kind = block.groups()
            if part := self.in_blocks.get(part, _IN_BLOCKS.get(part, "")):
                return f"model.layers.{layer}.{part}.{kind}"
        return _OUTSIDE_BLOCKS.get(stored, stored)


class GgufFiles(WeightFiles):
    """The tensors of a GGUF file, read lazily, in bounded memory, and as float32.

    The file is mapped anew for every chunk of rows: the pages of a mapping count as resident until
    it is dropped.
    """

    def __init__(self, header: GgufHeader, weights: GgufWeights, head_dim: int) -> None:
        """Name the tensors.

        Args:
            header: The file's.
            weights: What its family's converter does.
            head_dim: How many rows of queries or keys are one head's.
        """
        self._path = header.path
        self._weights = weights
        self._head_dim = head_dim
        self._tensors = {
            weights.name(name): tensor
            for name, tensor in header.tensors.items()
            if name not in weights.extra
        }
        self.entries = {
            name: TensorEntry(header.path, tensor.name, tensor.kind.name, tensor.shape)
            for name, tensor in self._tensors.items()
        }

    @property
    def rounded_kinds(self) -> list[str]:
        """The quantized types in the file, the most frequent first."""
        kinds = [entry.dtype for entry in self.entries.values() if entry.dtype not in DTYPES]
        return sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind))

    def check_dtypes(self) -> None:
        """Check that every tensor is of a type that can be read.

        Raises:
            CheckpointError: Some tensor has another type.
        """
        for tensor in self._tensors.values():
            size = GGML_QUANT_SIZES[tensor.kind][1]
            try:
                quants.dequantize(np.zeros((1, size), np.uint8), tensor.kind)
            except NotImplementedError as error:
                raise CheckpointError(
                    f"{self._path}: {tensor.name}: type must be one that the gguf package reads, "
                    f"is {tensor.kind.name}; use a file of another quantization, best F16 or BF16"
                ) from error

    def take(self, name: str, indices: Sequence[int]) -> Float32:
        """Read single rows of a tensor, in the order of `indices`; raises as `rows` does."""
        read = self._read(name, np.array(indices, np.intp))
        check_finite(name, read)
        return read

    def check_finite(self) -> None:
        """Read everything once; raises as `rows` does."""
        for name, entry in self.entries.items():
            for _, chunk in self._chunks(name, 0, entry.shape[0]):
                check_finite(name, chunk)

    def sha256(self) -> str:
        """Hash the file as it is, as the page it was downloaded from shows it."""
        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _chunks(self, name: str, start: int, stop: int) -> Iterator[tuple[int, Float32]]:
        """Yield `(first row, rows)`."""
        step = rows_per_chunk(self.entries[name].shape, np.dtype(np.float32).itemsize)
        for at in range(start, stop, step):
            yield at, self._read(name, np.arange(at, min(at + step, stop)))

    def _read(self, name: str, rows: Rows) -> Float32:
        tensor = self._tensors[name]
        if self._weights.rotary_pairs and name.rpartition(".")[0].endswith(("q_proj", "k_proj")):
            rows = _stored_rows(rows, self._head_dim)
        values = _dequantized(tensor, self._stored(tensor)[rows])
        if name.endswith("norm.weight"):
            values = values - np.float32(self._weights.gain_offset)
        return values

    def _stored(self, tensor: GgufTensor) -> NDArray[np.uint8]:
        """Map a tensor's bytes: (rows, bytes in a row)."""
        shape = tensor.shape[0], tensor.row_bytes
        try:
            return np.memmap(self._path, np.uint8, "r", tensor.offset, shape)
        except (OSError, ValueError) as error:  # gone, or cut short since it was opened
            raise CheckpointError(f"{self._path}: cannot be read: {error}") from error


def _dequantized(tensor: GgufTensor, stored: NDArray[np.uint8]) -> Float32:
    values = quants.dequantize(np.ascontiguousarray(stored), tensor.kind)
    return values.reshape(len(stored), *tensor.shape[1:])


def _stored_rows(rows: Rows, head_dim: int) -> Rows:
    """Find rows of queries or keys: of a head, row `half * head_dim / 2 + i` is at `2 i + half`."""
    head, row = np.divmod(rows, head_dim)
    half, i = np.divmod(row, head_dim // 2)
    stored: Rows = head * head_dim + 2 * i + half
    return stored
