"""Integer products: 8-bit weights by output channel, 8-bit activations by row (W8A8).

`DynamicQuantizeMatMul` gives all rows of a chunk one scale, so a token's result depends on the
tokens after it. Here every row has its own scale, made with stock operators; so appending equals
one pass bit for bit, and an outlier in one row costs the others nothing:

    x (1, rows, inputs) ─┬─ Abs ─ ReduceMax ─ Mul ─ Max ── scales (rows)
                         └─ QuantizeLinear, axis 1 ── uint8, zero point 128
                                MatMulIntegerToFloat ── times the weights' scales
                                                 Mul ── times the rows' scales

The last step is separate: if a norm follows, or another rounding by rows, the rows' scales need not
be multiplied in.

Activations are unsigned: signed ones run on a reference kernel of onnxruntime.

x86 without VNNI multiplies two neighbouring inputs at a time and adds both products in 16 bits,
where large ones saturate: 255 x (w + w') must stay below 32,768. Weights are scaled so that it
does, and a product is the same number on every processor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foggen_exporter.graphs.builder import MICROSOFT, GraphBuilder
from foggen_exporter.graphs.matrix import Matrix
from foggen_runtime.arrays import Float32

Int8 = npt.NDArray[np.int8]

ROW_AXES = "all_axes_but_rows"  # the initializer that says what a row's scale spans
_ZERO_POINT = 128
_LARGEST = 127

# Even a row of zeros needs a scale.
_SMALLEST_SCALE = np.finfo(np.float32).tiny


def quantize_channels(rows: Float32) -> tuple[Int8, Float32]:
    """Round a (outputs, inputs) matrix to int8 with one scale for each output.

    No weight is beyond 127, and no two neighbours (inputs 2i and 2i + 1) together beyond 128: each
    is rounded by half a step at most, so a sum below 127 before rounding is enough.

    Returns:
        The rounded matrix transposed, (inputs, outputs), and the scales, (outputs,).
    """
    pairs = rows[:, : rows.shape[1] // 2 * 2].reshape(len(rows), -1, 2)
    largest = np.maximum(np.abs(rows).max(axis=1), np.abs(pairs.sum(axis=2)).max(axis=1, initial=0))
    scales = largest / np.float32(_LARGEST)
    scales = np.where(scales == 0, np.float32(1), scales).astype(np.float32)
    return np.rint(rows / scales[:, None]).astype(np.int8).T, scales


@dataclass(frozen=True)
class QuantizedRows:
    """Activations rounded row by row: the names of two tensors.

    Attributes:
        values: uint8 with zero point 128, shaped as the activations, (1, rows, columns).
        scales: One for each row, (rows, 1).
    """

    values: str
    scales: str


def quantize_rows(g: GraphBuilder, x: str, name: str) -> QuantizedRows:
    """Round the rows of `x`, (1, rows, columns), in nodes whose names begin with `name`."""
    magnitudes = g.op("Abs", [x], f"{name}.magnitudes")
    axes = g.constant(ROW_AXES, [0, 2], np.int64)
    largest = g.op("ReduceMax", [magnitudes, axes], f"{name}.largest", {"keepdims": 0})
    step = g.op("Mul", [largest, g.constant("row_step", 1 / _LARGEST, np.float32)], f"{name}.step")
    smallest = g.constant("smallest_scale", _SMALLEST_SCALE, np.float32)
    scales = g.op("Max", [step, smallest], f"{name}.row_scales")
    zero_points = _zero_points(g, scales, f"{name}.row_zero_points")
    values = g.op("QuantizeLinear", [x, scales, zero_points], f"{name}.quantized", {"axis": 1})
    last_axis = g.constant("last_axis", [-1], np.int64)
    return QuantizedRows(values, g.op("Unsqueeze", [scales, last_axis], f"{name}.row_scale_column"))


def integer_product(g: GraphBuilder, rows: QuantizedRows, matrix: Matrix) -> str:
    """Add the product of rows and `matrix.T`, without the rows' scales."""
    name = matrix.name
    parts = [quantize_channels(chunk) for chunk in matrix.chunks()]
    g.weight(f"{name}.weight", np.concatenate([part for part, _ in parts], axis=1))
    g.weight(f"{name}.scales", np.concatenate([scales for _, scales in parts]))
    inputs = [
        rows.values,
        f"{name}.weight",
        g.constant("unit_scale", 1, np.float32),
        f"{name}.scales",
        g.constant("row_zero_point", _ZERO_POINT, np.uint8),
    ]
    return g.op("MatMulIntegerToFloat", inputs, f"{name}.unscaled", domain=MICROSOFT)


def scale_rows(g: GraphBuilder, x: str, scales: Sequence[str], output: str) -> str:
    """Multiply the rows of `x`, (1, rows, columns), with one or more scales, each (rows, 1)."""
    first, *others = scales
    for index, other in enumerate(others):
        first = g.op("Mul", [first, other], f"{output}.scales.{index}")
    return g.op("Mul", [x, first], output)


def _zero_points(g: GraphBuilder, scales: str, output: str) -> str:
    """Add a zero point for each scale: with steps this large, any scale rounds to it."""
    step = g.constant("largest_step", np.finfo(np.float32).max, np.float32)
    zero_point = g.constant("row_zero_point", _ZERO_POINT, np.uint8)
    return g.op("QuantizeLinear", [scales, step, zero_point], output)
