"""The other files that an ONNX model reads, found without the onnx package.

onnxruntime opens whatever file a tensor's `external_data` names, so a bundle's model may name only
files that are listed and hashed. The model is a protocol buffer: each field has a number and a wire
type (https://protobuf.dev/programming-guides/encoding/), and messages inside are bytes. Only the
fields that lead to tensors are followed (onnx.proto3); anything ambiguous is refused.
"""

import mmap
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import BinaryIO

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_LENGTHS = {_FIXED64: 8, _FIXED32: 4}
_LOCATION = b"location"
_MAX_DEPTH = 64


@dataclass
class _Message:
    """A kind of message, and which of its fields hold messages that lead to tensors."""

    fields: dict[int, "_Message"] = field(default_factory=dict)


_ENTRY, _TENSOR, _SPARSE, _GRAPH = _Message(), _Message(), _Message(), _Message()
_ATTRIBUTE, _NODE, _FUNCTION, _TRAINING = _Message(), _Message(), _Message(), _Message()
_TENSOR.fields = {13: _ENTRY}
_SPARSE.fields = {1: _TENSOR, 2: _TENSOR}
_ATTRIBUTE.fields = {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE}
_NODE.fields = {5: _ATTRIBUTE}
_GRAPH.fields = {1: _NODE, 5: _TENSOR, 15: _SPARSE}
_FUNCTION.fields = {7: _NODE, 11: _ATTRIBUTE}
_TRAINING.fields = {1: _GRAPH, 2: _GRAPH}
_MODEL = _Message({7: _GRAPH, 20: _TRAINING, 25: _FUNCTION})


def external_locations(file: BinaryIO) -> frozenset[str]:
    """Return the locations of an ONNX model's tensors, as the model spells them.

    Args:
        file: The model, a file on disk.

    Raises:
        ValueError: It is not an ONNX model, or is ambiguous.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return frozenset(_locations(data, (0, len(data)), _MODEL, _MAX_DEPTH))


def unlisted_locations(file: BinaryIO, name: str, listed: Container[str]) -> tuple[str, ...]:
    """Return what a model reads that is not listed.

    Args:
        file: The model.
        name: What the list calls it; the model's own names are relative to its directory.
        listed: The files by name.

    Raises:
        ValueError: As `external_locations`.
    """
    directory = PurePosixPath(name).parent
    found = sorted(external_locations(file))
    # Joining paths drops `.` and `//`, but onnxruntime may not: so names must be plain.
    return tuple(
        location
        for location in found
        if str(PurePosixPath(location)) != location or str(directory / location) not in listed
    )


def _locations(data: mmap.mmap, span: tuple[int, int], kind: _Message, depth: int) -> Iterator[str]:
    if depth == 0:
        raise ValueError(f"graphs must be nested at most {_MAX_DEPTH} deep")
    if kind is _ENTRY:
        yield from _location(data, span)
        return
    for number, inner in _byte_fields(data, span, kind.fields):
        yield from _locations(data, inner, kind.fields[number], depth - 1)


def _location(data: mmap.mmap, span: tuple[int, int]) -> Iterator[str]:
    """Read an entry of `external_data`: a key (1) and a value (2); the last one counts."""
    entry = {number: data[start:end] for number, (start, end) in _byte_fields(data, span, (1, 2))}
    if entry.get(1) == _LOCATION:
        yield entry.get(2, b"").decode("utf-8")


def _byte_fields(
    data: mmap.mmap, span: tuple[int, int], wanted: Container[int]
) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the number of each wanted field of a message, and where its bytes lie."""
    at, end = span
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if number == 0 or tag >> 32:
            raise ValueError(f"at byte {at}: a field's number must be within 1 and 2^29 - 1")
        if wire == _BYTES:
            length, at = _varint(data, at, end)
        elif wire == _VARINT:
            _, at = _varint(data, at, end)
            length = 0
        elif wire in _FIXED_LENGTHS:
            length = _FIXED_LENGTHS[wire]
        else:
            raise ValueError(f"at byte {at}: wire type {wire} is not used by ONNX")
        if at + length > end:
            raise ValueError(f"at byte {at}: a field must end within its message")
        if number in wanted:
            if wire != _BYTES:
                raise ValueError(f"at byte {at}: field {number} must hold bytes")
            yield number, (at, at + length)
        at += length


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"at byte {at}: a number must end within its message and 10 bytes")
