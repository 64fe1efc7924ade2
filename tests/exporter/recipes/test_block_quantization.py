"""Quantized blocks against onnxruntime's operators, which read the same bytes."""

from pathlib import Path

import numpy as np
import pytest

from foggen_exporter.graphs.builder import GraphBuilder, tensor_info
from foggen_exporter.graphs.matmul import emit_embedding, emit_matmul, store_embedding
from foggen_exporter.graphs.matrix import Matrix
from foggen_exporter.recipes.block_quantization import (
    BlockFormat,
    dequantize_blocks,
    pack,
    quantize_blocks,
    unpack,
)
from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.manifest import WeightFormat
from foggen_runtime.model.quiet_onnxruntime import ort

FORMS = [
    BlockFormat(bits, block_size, symmetric)
    for bits in (4, 8)
    for block_size in (32, 128)
    for symmetric in (True, False)
]


def weights(rows: int = 24, columns: int = 384) -> Float32:
    return np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_the_error_is_at_most_a_step_and_mostly_far_less(form: BlockFormat) -> None:
    matrix = weights()
    quantized = quantize_blocks(matrix, form)
    error = np.abs(dequantize_blocks(quantized, form) - matrix).reshape(24, -1, form.block_size)
    steps = np.abs(quantized.scales)[..., None]
    # More than half a step off: a symmetric grid has no level opposite its far end, and the range
    # grid rounds its zero point.
    assert (error <= steps * 1.001).all()
    assert np.median(error / steps) < 0.3


@pytest.mark.parametrize("form", FORMS)
def test_single_rows_are_those_of_the_whole_matrix(form: BlockFormat) -> None:
    quantized = quantize_blocks(weights() + np.arange(24, dtype=np.float32)[:, None], form)
    picked = dequantize_blocks(quantized.rows([7, 3, 20]), form)
    assert (picked == dequantize_blocks(quantized, form)[[7, 3, 20]]).all()


@pytest.mark.parametrize("form", FORMS)
def test_zeros_stay_zeros(form: BlockFormat) -> None:
    matrix = weights()
    matrix[3] = 0
    matrix[5, ::7] = 0
    restored = dequantize_blocks(quantize_blocks(matrix, form), form)
    assert (restored[matrix == 0] == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_matmulnbits_reads_what_was_written(form: BlockFormat) -> None:
    matrix = weights()
    x = np.random.default_rng(1).normal(size=(5, 384)).astype(np.float32)
    stored = WeightFormat(form.bits, form.block_size, form.symmetric, accuracy_level=1)
    g = GraphBuilder(weights=None)
    emit_matmul(g, "x", Matrix("y", matrix.shape, lambda: iter([matrix[:10], matrix[10:]])), stored)
    model = g.model(
        [tensor_info("x", np.float32, ["rows", 384])],
        [tensor_info("y", np.float32, ["rows", 24])],
        "test",
    )
    (y,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    expected = x @ dequantize_blocks(quantize_blocks(matrix, form), form).T
    assert np.abs(y - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("form", FORMS)
def test_gatherblockquantized_reads_what_was_written(form: BlockFormat) -> None:
    matrix = weights(rows=25)
    stored = WeightFormat(form.bits, form.block_size, form.symmetric)
    g = GraphBuilder(weights=None)
    embedding = Matrix("e", matrix.shape, lambda: iter([matrix]))
    output = emit_embedding(g, "ids", embedding, stored)
    store_embedding(g, embedding, stored)
    model = g.model(
        [tensor_info("ids", np.int64, ["count"])],
        [tensor_info(output, np.float32, ["count", 384])],
        "test",
    )
    ids = np.array([24, 0, 7])
    (rows,) = ort.InferenceSession(model.SerializeToString()).run(None, {"ids": ids})
    expected = dequantize_blocks(quantize_blocks(matrix, form), form)[ids]
    assert np.abs(rows - expected).max() < 1e-6


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_packing_and_unpacking_give_the_same(count: int) -> None:
    values = np.random.default_rng(2).integers(0, 16, size=(3, count)).astype(np.uint8)
    assert np.array_equal(unpack(pack(values, 4), 4)[:, :count], values)


def test_a_block_size_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    matrix = weights(columns=200)
    with pytest.raises(ValueError, match="columns: must be a multiple of 128, is 200"):
        emit_matmul(
            GraphBuilder(weights=None),
            "x",
            Matrix("y", matrix.shape, lambda: iter([matrix])),
            WeightFormat(4, 128, True),
        )
