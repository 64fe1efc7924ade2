"""Emitting matrix products, embeddings and output heads in the format a recipe asks for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from foggen_exporter.block_quantization import (
    BlockFormat,
    Float32,
    QuantizedBlocks,
    quantize_blocks,
)
from foggen_exporter.error_feedback import FeedbackQuantizer
from foggen_exporter.graph import MICROSOFT, Attributes, GraphBuilder
from foggen_exporter.integer_matmul import emit_integer_matmul
from foggen_exporter.matrix import Matrix
from foggen_runtime.errors import CheckpointError
from foggen_runtime.manifest import WeightFormat


def emit_matmul(g: GraphBuilder, x: str, matrix: Matrix, form: WeightFormat) -> str:
    """Add `x @ matrix.T` and return its output's name.

    Raises:
        CheckpointError: The format's blocks do not divide the matrix's columns.
    """
    if form.activation_bits is not None:
        return emit_integer_matmul(g, x, matrix)
    _add_weight(g, matrix, form, _blocks_shape(matrix, form))
    return _product(g, x, matrix, form, Product(matrix.name, f"{matrix.name}.weight"))


def emit_embedding(g: GraphBuilder, ids: str, matrix: Matrix, form: WeightFormat) -> str:
    """Add the rows of `matrix` that `ids` name, and return the output's name.

    The weights are `store_embedding`'s to add.
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


def store_embedding(g: GraphBuilder, matrix: Matrix, form: WeightFormat) -> None:
    """Add the weights of an embedding.

    Raises:
        CheckpointError: The format's blocks do not divide the matrix's columns.
    """
    _add_weight(g, matrix, form, (matrix.shape[0], -1))


def emit_tied_matmul(g: GraphBuilder, x: str, matrix: Matrix, form: WeightFormat, name: str) -> str:
    """Add `x @ matrix.T` over the bytes that `store_embedding` stored for `matrix`."""
    weight = f"{matrix.name}.weight"
    if form.block_size is not None:
        weight = g.alias(f"{name}.weight", weight, _blocks_shape(matrix, form))
    return _product(g, x, matrix, form, Product(name, weight))


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
) -> None:
    if form.block_size is None:
        g.streamed_weight(f"{matrix.name}.weight", matrix.shape, np.float32, matrix.chunks())
        return
    columns = matrix.shape[1]
    if columns % form.block_size:
        raise CheckpointError(
            f"{matrix.name}: input size must be a multiple of the block size "
            f"{form.block_size}, is {columns}"
        )
    quantize = _quantizer(matrix, BlockFormat(form.bits, form.block_size, bool(form.symmetric)))
    whole = _joined(quantize(chunk) for chunk in matrix.chunks())
    g.weight(f"{matrix.name}.weight", whole.packed.reshape(shape))
    g.weight(f"{matrix.name}.scales", whole.scales)
    if whole.zero_points is not None:
        g.weight(f"{matrix.name}.zero_points", whole.zero_points)


def _quantizer(matrix: Matrix, form: BlockFormat) -> Callable[[Float32], QuantizedBlocks]:
    if matrix.sample is None:
        return partial(quantize_blocks, form=form)
    return FeedbackQuantizer.of(matrix.sample, form).quantize


def _scale_inputs(name: str, form: WeightFormat) -> list[str]:
    return [f"{name}.scales"] + ([] if form.symmetric else [f"{name}.zero_points"])


def _joined(parts: Iterable[QuantizedBlocks]) -> QuantizedBlocks:
    chunks = list(parts)
    zero_points = [chunk.zero_points for chunk in chunks if chunk.zero_points is not None]
    return QuantizedBlocks(
        np.concatenate([chunk.packed for chunk in chunks]),
        np.concatenate([chunk.scales for chunk in chunks]),
        np.concatenate(zero_points) if zero_points else None,
    )
