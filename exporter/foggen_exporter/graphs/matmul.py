"""Emitting matrix products, embeddings and output heads in the format a recipe asks for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from foggen_exporter.graphs.builder import MICROSOFT, Array, Attributes, GraphBuilder
from foggen_exporter.graphs.matrix import Matrix
from foggen_exporter.recipes.block_quantization import (
    BlockFormat,
    QuantizedBlocks,
    joined,
    quantize_blocks,
)
from foggen_exporter.recipes.error_feedback import FeedbackQuantizer
from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.manifest import WeightFormat

# Rows of an output head in one product: a multiple of what the kernels take at a time.
_PART_ROWS = 20480


def emit_matmul(g: GraphBuilder, x: str, matrix: Matrix, form: WeightFormat) -> str:
    """Add `x @ matrix.T` and return its output's name."""
    _add_weight(g, matrix, form, _blocks_shape(matrix, form))
    return _product(g, x, matrix, form, Product(matrix.name, f"{matrix.name}.weight"))


def emit_embedding(g: GraphBuilder, ids: str, matrix: Matrix, form: WeightFormat) -> str:
    """Add the rows of `matrix` that `ids` name, and return the output's name.

    `store_embedding` adds the weights.
    """
    output = f"{matrix.name}.rows"
    if form.block_size is None:
        return g.op("Gather", [f"{matrix.name}.weight", ids], output)
    attributes: Attributes = {
        "bits": form.bits,
        "block_size": form.block_size,
        "gather_axis": 0,
        "quantize_axis": 1,
    }
    inputs = [f"{matrix.name}.weight", ids, *_scale_inputs(matrix.name, form)]
    return g.op("GatherBlockQuantized", inputs, output, attributes, MICROSOFT)


def store_embedding(g: GraphBuilder, matrix: Matrix, form: WeightFormat) -> QuantizedBlocks | None:
    """Add the weights of an embedding, and return its blocks if it has any."""
    return _add_weight(g, matrix, form, (matrix.shape[0], -1))


def emit_head(g: GraphBuilder, x: str, matrix: Matrix, form: WeightFormat, name: str) -> str:
    """Add `x @ matrix.T` over the bytes that `store_embedding` stored for `matrix`.

    Blocks of many rows are multiplied in parts: on opening, onnxruntime holds a product's weights
    twice while it packs them, and with a whole head at once that would be the peak of memory.
    """
    weight = f"{matrix.name}.weight"
    if form.block_size is None:
        return _product(g, x, matrix, form, Product(name, weight))
    g.alias(f"{name}.weight", weight, _blocks_shape(matrix, form))
    rows = matrix.shape[0]
    if rows <= _PART_ROWS:
        return _product(g, x, matrix, form, Product(name, f"{name}.weight"))
    parts = [range(at, min(at + _PART_ROWS, rows)) for at in range(0, rows, _PART_ROWS)]
    outputs = [
        _part(g, x, matrix, form, (f"{name}.{index}", name, part))
        for index, part in enumerate(parts)
    ]
    del g.initializers[f"{name}.weight"]
    return g.op("Concat", outputs, name, {"axis": -1})


def _part(
    g: GraphBuilder, x: str, matrix: Matrix, form: WeightFormat, part: tuple[str, str, range]
) -> str:
    """Add the product with some rows: the output's name, the whole product's, and which rows."""
    output, whole, rows = part
    weight = g.row_alias(f"{output}.weight", f"{whole}.weight", rows)
    for kind in _scale_inputs(matrix.name, form):
        g.row_alias(kind.replace(matrix.name, output, 1), kind, rows)
    shape = (len(rows), matrix.shape[1])
    return _product(g, x, replace(matrix, name=output, shape=shape), form, Product(output, weight))


def emit_stored_matmul(
    g: GraphBuilder, x: str, matrix: Matrix, form: WeightFormat, blocks: QuantizedBlocks
) -> str:
    """Add `x @ matrix.T` for a matrix that is already quantized."""
    _add_blocks(g, matrix, blocks, _blocks_shape(matrix, form))
    return _product(g, x, matrix, form, Product(matrix.name, f"{matrix.name}.weight"))


@dataclass(frozen=True)
class Product:
    """The names of a product's output and of its weight initializer."""

    output: str
    weight: str


def _product(g: GraphBuilder, x: str, matrix: Matrix, form: WeightFormat, names: Product) -> str:
    if form.block_size is None:
        return g.op("FusedMatMul", [x, names.weight], names.output, {"transB": 1}, MICROSOFT)
    rows, columns = matrix.shape
    attributes: Attributes = {
        "N": rows,
        "K": columns,
        "bits": form.bits,
        "block_size": form.block_size,
        "accuracy_level": form.accuracy_level or 0,
    }
    inputs = [x, names.weight, *_scale_inputs(matrix.name, form)]
    return g.op("MatMulNBits", inputs, names.output, attributes, MICROSOFT)


def _blocks_shape(matrix: Matrix, form: WeightFormat) -> tuple[int, ...]:
    rows, columns = matrix.shape
    if form.block_size is None:
        return (rows, columns)
    return (rows, columns // form.block_size, form.block_size * form.bits // 8)


def _add_weight(
    g: GraphBuilder, matrix: Matrix, form: WeightFormat, shape: tuple[int, ...]
) -> QuantizedBlocks | None:
    if form.block_size is None:
        g.streamed_weight(f"{matrix.name}.weight", matrix.shape, np.float32, matrix.chunks())
        return None
    quantize = _quantizer(matrix, BlockFormat(form.bits, form.block_size, bool(form.symmetric)))
    whole = joined(map(quantize, matrix.chunks()))
    _add_blocks(g, matrix, whole, shape)
    return whole


def _add_blocks(
    g: GraphBuilder, matrix: Matrix, blocks: QuantizedBlocks, shape: tuple[int, ...]
) -> None:
    parts: dict[str, Array] = {"weight": blocks.packed.reshape(shape), "scales": blocks.scales}
    if blocks.zero_points is not None:
        parts["zero_points"] = blocks.zero_points
    g.add_weights({f"{matrix.name}.{part}": array for part, array in parts.items()})


def _quantizer(matrix: Matrix, form: BlockFormat) -> Callable[[Float32], QuantizedBlocks]:
    if matrix.sample is None:
        return partial(quantize_blocks, form=form)
    return FeedbackQuantizer.of(matrix.sample, form).quantize


def _scale_inputs(name: str, form: WeightFormat) -> list[str]:
    return [f"{name}.scales"] + ([] if form.symmetric else [f"{name}.zero_points"])
