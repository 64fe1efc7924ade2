"""The header of a GGUF file: what it says of the model, and where its tensors lie.

The `gguf` package's reader makes a numpy array of every string, which takes ten seconds for a
vocabulary of 150,000 and its merges, and does not tell a cut file from a broken one.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self, cast

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from foggen_runtime.errors import CheckpointError
from foggen_runtime.jsonio import shortened

Scalar = int | float | bool | str
Value = Scalar | list[Scalar]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = 32  # where general.alignment does not say otherwise
_NUMBERS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
}


@dataclass(frozen=True)
class GgufTensor:
    """Where one tensor lies, and its form.

    Attributes:
        name: As the file has it.
        kind: How its numbers are stored.
        shape: Rows first, as numpy has it; the file has it the other way round.
        offset: From the beginning of the file, in bytes.
    """

    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int

    @property
    def row_bytes(self) -> int:
        """How long a row is; of a vector, a single number."""
        block, size = GGML_QUANT_SIZES[self.kind]
        return prod(self.shape[1:]) // block * size

    @property
    def end(self) -> int:
        """Where it ends in the file."""
        return self.offset + self.shape[0] * self.row_bytes


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says before its weights."""

    path: Path
    metadata: Mapping[str, Value]
    tensors: Mapping[str, GgufTensor]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check the header, and that the file holds what it announces.

        Raises:
            CheckpointError: It is no whole GGUF file, or one of several.
        """
        try:
            with path.open("rb") as file:
                if file.read(len(_MAGIC)) != _MAGIC:
                    raise CheckpointError(f"{path}: must be a GGUF file, does not begin with GGUF")
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                    return cls(path, *_parse(path, mapped))
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error}") from error
        except struct.error as error:
            raise _cut(path, "the header") from error
        except ValueError as error:  # an unknown type, or text that is not UTF-8
            raise CheckpointError(f"{path}: the header is damaged: {error}") from error

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a whole number.

        Args:
            key: Its name in the metadata.
            default: What a file means that does not say; None if it must.

        Raises:
            CheckpointError: It is missing, or something else.
        """
        value = self._value(key, default)
        if type(value) is not int:
            raise self.refusal(key, "must be a whole number", value)
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number; arguments and errors as in `integer`."""
        value = self._value(key, default)
        if type(value) not in (int, float):
            raise self.refusal(key, "must be a number", value)
        return float(value)  # type: ignore[arg-type]

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text; arguments and errors as in `integer`."""
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self.refusal(key, "must be a text", value)
        return value

    def texts(self, key: str) -> list[str]:
        """Return a list of texts.

        Raises:
            CheckpointError: It is missing, or something else.
        """
        value = self._value(key, None)
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.refusal(key, "must be a list of texts", value)
        return value  # type: ignore[return-value]

    def integers(self, key: str) -> list[int]:
        """Return a list of whole numbers; errors as in `texts`."""
        value = self._value(key, None)
        if not isinstance(value, list) or not all(type(number) is int for number in value):
            raise self.refusal(key, "must be a list of whole numbers", value)
        return value  # type: ignore[return-value]

    def refusal(self, key: str, rule: str, value: object) -> CheckpointError:
        """Return the error that says what is wrong with a value."""
        return CheckpointError(f"{self.path}: {key}: {rule}, is {shortened(repr(value))}")

    def _value(self, key: str, default: Scalar | None) -> Value:
        value = self.metadata.get(key, default)
        if value is None:
            raise CheckpointError(f"{self.path}: {key}: must be there, is missing")
        return value


def _parse(path: Path, mapped: mmap.mmap) -> tuple[dict[str, Value], dict[str, GgufTensor]]:
    cursor = _Cursor(mapped, len(_MAGIC))
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise CheckpointError(
            f"{path}: version must be {' or '.join(map(str, _VERSIONS))}, little-endian, "
            f"is {version}; convert the checkpoint again with a current llama.cpp"
        )
    tensor_count, key_count = cursor.number("Q"), cursor.number("Q")
    metadata: dict[str, Value] = {}
    for _ in range(key_count):
        key = cursor.text()
        metadata[key] = cursor.value()
    parts = metadata.get("split.count", 1)
    if parts not in (0, 1):
        raise CheckpointError(
            f"{path}: split.count: must be 1, is {parts}; join the files with "
            f"`llama-gguf-split --merge FIRST-FILE OUTPUT.gguf`, and export that"
        )
    tensors = [cursor.tensor() for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment < 1:
        raise CheckpointError(f"{path}: general.alignment: must be positive, is {alignment!r}")
    begin = -(-cursor.at // alignment) * alignment
    placed = {}
    for tensor in tensors:
        placed[tensor.name] = GgufTensor(
            tensor.name, tensor.kind, tensor.shape, begin + tensor.offset
        )
        _check(path, placed[tensor.name], len(mapped))
    return metadata, placed


def _check(path: Path, tensor: GgufTensor, size: int) -> None:
    block = GGML_QUANT_SIZES[tensor.kind][0]
    if not tensor.shape or prod(tensor.shape[1:]) % block:
        raise CheckpointError(
            f"{path}: {tensor.name}: rows must be of whole blocks of {block} for "
            f"{tensor.kind.name}, the shape is {list(tensor.shape)}"
        )
    if tensor.end > size:
        raise _cut(path, tensor.name)


def _cut(path: Path, where: str) -> CheckpointError:
    return CheckpointError(f"{path}: is cut short, it ends within {where}; download it again")


class _Cursor:
    """Reads a file's header from front to back; `struct.error` where it ends too early."""

    def __init__(self, mapped: mmap.mmap, at: int) -> None:
        self._mapped = mapped
        self.at = at

    def number(self, code: str) -> int:
        (value,) = self._unpack(code)
        return int(value)

    def text(self) -> str:
        (text,) = self._unpack(f"{self.number('Q')}s")
        return bytes(text).decode()

    def value(self) -> Value:
        kind = GGUFValueType(self.number("I"))
        if kind == GGUFValueType.ARRAY:
            kind, count = GGUFValueType(self.number("I")), self.number("Q")
            if kind == GGUFValueType.STRING:
                return [self.text() for _ in range(count)]
            return list(self._unpack(f"{count}{_code(kind)}"))
        if kind == GGUFValueType.STRING:
            return self.text()
        (value,) = self._unpack(_code(kind))
        return cast(Scalar, value)

    def tensor(self) -> GgufTensor:
        """Read what is said of a tensor; its offset counts from the first one's beginning."""
        name = self.text()
        dimensions = self._unpack(f"{self.number('I')}Q")
        kind = GGMLQuantizationType(self.number("I"))
        return GgufTensor(name, kind, tuple(map(int, reversed(dimensions))), self.number("Q"))

    def _unpack(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._mapped, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values


def _code(kind: GGUFValueType) -> str:
    if kind not in _NUMBERS:
        raise ValueError(f"lists of lists are not read ({kind.name})")
    return _NUMBERS[kind]
