"""Rounding with error feedback, against GPTQ as its paper writes it."""

import numpy as np
import pytest

from foggen_exporter.graphs.builder import GraphBuilder, tensor_info
from foggen_exporter.graphs.matmul import emit_matmul
from foggen_exporter.graphs.matrix import Matrix
from foggen_exporter.recipes.block_quantization import (
    BlockFormat,
    block_grid,
    dequantize_blocks,
    quantize_blocks,
)
from foggen_exporter.recipes.error_feedback import FeedbackQuantizer, InputSample
from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.manifest import WeightFormat
from foggen_runtime.model.quiet_onnxruntime import ort

FORMS = [BlockFormat(4, 32, symmetric) for symmetric in (True, False)]


def sample(columns: int = 96) -> InputSample:
    """Correlated inputs, some columns far larger than others."""
    random = np.random.default_rng(0)
    mixing = random.normal(size=(columns // 4, columns)) * random.uniform(0.1, 4, columns)
    rows = random.normal(size=(200, columns // 4)) @ mixing
    return InputSample(rows.astype(np.float32))


def weights(rows: int = 20, columns: int = 96) -> Float32:
    return np.random.default_rng(1).normal(size=(rows, columns)).astype(np.float32)


def gptq(matrix: Float32, inputs: InputSample, form: BlockFormat) -> Float32:
    """Return what GPTQ makes of a matrix: every error is spread over the columns still to come."""
    moment = inputs.rows.T.astype(np.float64) @ inputs.rows
    moment += np.eye(len(moment)) * inputs.damping * np.trace(moment) / len(moment)
    factor = np.linalg.cholesky(np.linalg.inv(moment)).T
    left, restored = matrix.astype(np.float64), np.empty_like(matrix)
    for column in range(matrix.shape[1]):
        if column % form.block_size == 0:
            block = left[:, None, column : column + form.block_size].astype(np.float32)
            scales, zeros = (part[:, 0] for part in block_grid(block, form))
        steps = np.clip(np.rint(left[:, column] / scales + zeros), 0, form.largest)
        restored[:, column] = (steps - zeros) * scales
        error = (left[:, column] - restored[:, column]) / factor[column, column]
        left[:, column:] -= np.outer(error, factor[column, column:])
    return restored


@pytest.mark.parametrize("form", FORMS)
def test_it_is_gptq_without_the_inverse(form: BlockFormat) -> None:
    matrix, inputs = weights(), sample()
    ours = dequantize_blocks(FeedbackQuantizer.of(inputs, form).quantize(matrix), form)
    theirs = gptq(matrix, inputs, form)
    # A near tie may fall to the other side, and changes the rest of its row.
    same_rows = (np.abs(ours - theirs).max(axis=1) < 1e-4 * np.abs(theirs).max()).mean()
    assert same_rows > 0.9


@pytest.mark.parametrize("form", FORMS)
def test_products_are_nearer_than_with_rounding_to_the_nearest(form: BlockFormat) -> None:
    matrix, inputs = weights(), sample()
    fed_back = dequantize_blocks(FeedbackQuantizer.of(inputs, form).quantize(matrix), form)
    nearest = dequantize_blocks(quantize_blocks(matrix, form), form)
    errors = [np.linalg.norm(inputs.rows @ (w - matrix).T) for w in (fed_back, nearest)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("form", FORMS)
def test_matmulnbits_reads_what_was_written(form: BlockFormat) -> None:
    matrix, inputs = weights(), sample()
    stored = WeightFormat(form.bits, form.block_size, form.symmetric, accuracy_level=1)
    g = GraphBuilder(weights=None)
    chunks = Matrix("y", matrix.shape, lambda: iter([matrix[:7], matrix[7:]]), inputs)
    emit_matmul(g, "x", chunks, stored)
    model = g.model(
        [tensor_info("x", np.float32, ["rows", 96])],
        [tensor_info("y", np.float32, ["rows", 20])],
        "test",
    )
    (y,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": inputs.rows})
    restored = dequantize_blocks(FeedbackQuantizer.of(inputs, form).quantize(matrix), form)
    expected = inputs.rows @ restored.T
    assert np.abs(y - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(expected - inputs.rows @ matrix.T).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("form", FORMS)
def test_inputs_that_say_nothing_round_to_the_nearest(form: BlockFormat) -> None:
    silent = InputSample(np.zeros((3, 96), np.float32))
    ours = FeedbackQuantizer.of(silent, form).quantize(weights())
    nearest = quantize_blocks(weights(), form)
    differing = dequantize_blocks(ours, form) != dequantize_blocks(nearest, form)
    assert differing.mean() < 1e-3
