"""Round-to-nearest quantization in blocks along the input, in the layout of MatMulNBits.

The layout is onnxruntime's `com.microsoft.MatMulNBits` and `GatherBlockQuantized`
(ContribOperators.md): unsigned integers, several to a byte with the first in the low bits, one
scale and, when asymmetric, one zero point per block. Without zero points the zero is in the
middle: 8 for 4 bits, 128 for 8 bits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foggen_runtime.arrays import Float32

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class QuantizedBlocks:
    """A quantized (rows, columns) matrix.

    Attributes:
        packed: uint8, (rows, columns // block_size, block_size * bits // 8).
        scales: float32, (rows, columns // block_size).
        zero_points: uint8, (rows, ceil(columns // block_size * bits / 8)); None when symmetric.
    """

    packed: UInt8
    scales: Float32
    zero_points: UInt8 | None

    def rows(self, indices: Sequence[int]) -> "QuantizedBlocks":
        """Return the matrix of some rows."""
        picked = list(indices)
        zero_points = None if self.zero_points is None else self.zero_points[picked]
        return QuantizedBlocks(self.packed[picked], self.scales[picked], zero_points)


@dataclass(frozen=True)
class BlockFormat:
    """How a matrix is cut into blocks and rounded."""

    bits: int
    block_size: int
    symmetric: bool

    @property
    def largest(self) -> int:
        """The largest quantized value."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The zero point that is implied if there is none."""
        return 1 << (self.bits - 1)


def quantize_blocks(matrix: Float32, form: BlockFormat) -> QuantizedBlocks:
    """Quantize a (rows, columns) matrix; `columns` must be a multiple of the block size.

    Raises:
        ValueError: The block size does not divide the columns.
    """
    rows, columns = matrix.shape
    if columns % form.block_size:
        raise ValueError(f"columns: must be a multiple of {form.block_size}, is {columns}")
    blocks = matrix.reshape(rows, -1, form.block_size)
    scales, zeros = block_grid(blocks, form)
    steps = blocks * (1 / scales)[..., None]
    steps += zeros[..., None]
    np.rint(steps, out=steps)
    np.clip(steps, 0, form.largest, out=steps)
    return pack_blocks(steps.astype(np.uint8), (scales, zeros), form)


def joined(parts: Iterable[QuantizedBlocks]) -> QuantizedBlocks:
    """Put quantized matrices one below the other."""
    chunks = list(parts)
    zero_points = [chunk.zero_points for chunk in chunks if chunk.zero_points is not None]
    return QuantizedBlocks(
        np.concatenate([chunk.packed for chunk in chunks]),
        np.concatenate([chunk.scales for chunk in chunks]),
        np.concatenate(zero_points) if zero_points else None,
    )


def block_grid(blocks: Float32, form: BlockFormat) -> tuple[Float32, Float32]:
    """Return scales and zero points, each (rows, count), for (rows, count, block_size) weights."""
    return _symmetric_grid(blocks, form) if form.symmetric else _range_grid(blocks, form)


def pack_blocks(steps: UInt8, grid: tuple[Float32, Float32], form: BlockFormat) -> QuantizedBlocks:
    """Pack quantized values, (rows, count, block_size), with their scales and zero points."""
    scales, zeros = grid
    packed_zeros = None if form.symmetric else pack(zeros.astype(np.uint8), form.bits)
    return QuantizedBlocks(pack(steps, form.bits), scales, packed_zeros)


def dequantize_blocks(quantized: QuantizedBlocks, form: BlockFormat) -> Float32:
    """Return the (rows, columns) matrix that the quantized one stands for."""
    values = unpack(quantized.packed, form.bits).astype(np.float32)
    count = quantized.scales.shape[1]
    if quantized.zero_points is None:
        zeros: Float32 | float = float(form.middle)
    else:
        zeros = unpack(quantized.zero_points, form.bits)[:, :count, None].astype(np.float32)
    values = (values - zeros) * quantized.scales[..., None]
    return values.reshape(len(values), -1)


def pack(values: UInt8, bits: int) -> UInt8:
    """Put `8 // bits` values of the last axis into each byte, the first in the low bits."""
    per_byte = 8 // bits
    if per_byte == 1:
        return values
    padding = -values.shape[-1] % per_byte
    if padding:
        values = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, padding)])
    packed = values[..., 0::per_byte].copy()
    for place in range(1, per_byte):
        packed |= values[..., place::per_byte] << (bits * place)
    return packed


def unpack(packed: UInt8, bits: int) -> UInt8:
    """Undo `pack`; padding values stay at the end of the last axis."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return values.reshape(*packed.shape[:-1], -1)


def _symmetric_grid(blocks: Float32, form: BlockFormat) -> tuple[Float32, Float32]:
    """Let the value of largest magnitude sit on the grid's far end, -2^(bits-1)."""
    high, low = blocks.max(axis=-1), blocks.min(axis=-1)
    extreme = np.where(-low > high, low, high)
    scales = _nonzero(extreme / np.float32(-form.middle))
    return scales, np.full_like(scales, form.middle)


def _range_grid(blocks: Float32, form: BlockFormat) -> tuple[Float32, Float32]:
    """Spread the grid over the block's range, widened to hold zero."""
    high = np.maximum(blocks.max(axis=-1), 0)
    low = np.minimum(blocks.min(axis=-1), 0)
    scales = _nonzero((high - low) / np.float32(form.largest))
    return scales, np.clip(np.rint(-low / scales), 0, form.largest)


def _nonzero(scales: Float32) -> Float32:
    return np.where(scales == 0, np.float32(1), scales).astype(np.float32)
