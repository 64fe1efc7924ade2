"""Integer products: 8-bit weights by output channel, 8-bit activations by row (W8A8).

`DynamicQuantizeMatMul` gives all rows of a chunk one scale, so a token's result depends on the
tokens after it. Here every row has its own scale, from stock operators; appending then equals
one pass bit for bit, and an outlier in one row costs the others nothing:

    x (1, rows, inputs) ─ Reshape ─┬─ Abs ─ ReduceMax ─ Mul ─── scale (rows)
                                   └─ QuantizeLinear, axis 0 ── uint8, zero point 128
                                        MatMulIntegerToFloat ── times the weights' scales
                                                         Mul ── times the rows' scales

Activations are unsigned: signed ones run on a reference kernel of onnxruntime.
"""

import numpy as np
import numpy.typing as npt

from foggen_exporter.block_quantization import Float32
from foggen_exporter.graph import MICROSOFT, GraphBuilder
from foggen_exporter.matrix import Matrix

Int8 = npt.NDArray[np.int8]

_ZERO_POINT = 128
_LARGEST = 127

# A row of zeros needs a scale too.
_SMALLEST_SCALE = np.finfo(np.float32).tiny


def quantize_channels(rows: Float32) -> tuple[Int8, Float32]:
    """Round a (outputs, inputs) matrix to int8 with one scale for each output.

    Returns:
        The rounded matrix transposed, (inputs, outputs), and the scales, (outputs,).
    """
    scales = np.abs(rows).max(axis=1) / np.float32(_LARGEST)
    scales = np.where(scales == 0, np.float32(1), scales).astype(np.float32)
    return np.rint(rows / scales[:, None]).astype(np.int8).T, scales


def emit_integer_matmul(g: GraphBuilder, x: str, matrix: Matrix) -> str:
    """Add `x @ matrix.T` as an integer product and return its output's name."""
    name = matrix.name
    outputs, inputs = matrix.shape
    parts = [quantize_channels(chunk) for chunk in matrix.chunks()]
    weight = np.concatenate([part for part, _ in parts], axis=1)
    g.weight(f"{name}.weight", weight)
    g.weight(f"{name}.scales", np.concatenate([scales for _, scales in parts]))
    quantized, row_scales = _quantize_rows(g, x, name, inputs)
    product = g.op(
        "MatMulIntegerToFloat",
        [
            quantized,
            f"{name}.weight",
            g.constant("unit_scale", 1, np.float32),
            f"{name}.scales",
            g.constant("row_zero_point", _ZERO_POINT, np.uint8),
        ],
        f"{name}.integer",
        domain=MICROSOFT,
    )
    scaled = g.op("Mul", [product, row_scales], f"{name}.scaled")
    batched = g.constant(f"batched_{outputs}", [1, -1, outputs], np.int64)
    return g.op("Reshape", [scaled, batched], name)


def _quantize_rows(g: GraphBuilder, x: str, name: str, inputs: int) -> tuple[str, str]:
    """Return the names of the uint8 rows, (rows, inputs), and of their scales, (rows, 1)."""
    flat = g.op(
        "Reshape", [x, g.constant(f"rows_{inputs}", [-1, inputs], np.int64)], f"{name}.rows"
    )
    largest = g.op(
        "ReduceMax",
        [g.op("Abs", [flat], f"{name}.magnitudes"), g.constant("last_axis", [-1], np.int64)],
        f"{name}.largest",
        {"keepdims": 1},
    )
    step = g.op("Mul", [largest, g.constant("row_step", 1 / _LARGEST, np.float32)], f"{name}.step")
    smallest = g.constant("smallest_scale", _SMALLEST_SCALE, np.float32)
    row_scales = g.op("Max", [step, smallest], f"{name}.row_scales")
    vector = g.op(
        "Reshape", [row_scales, g.constant("vector", [-1], np.int64)], f"{name}.row_scale_vector"
    )
    zero_point = g.constant("row_zero_point_vector", [_ZERO_POINT], np.uint8)
    zero_points = g.op(
        "Expand",
        [zero_point, g.op("Shape", [vector], f"{name}.row_count")],
        f"{name}.row_zero_points",
    )
    quantized = g.op(
        "QuantizeLinear", [flat, vector, zero_points], f"{name}.quantized", {"axis": 0}
    )
    return quantized, row_scales
