"""Integer products with one activation scale per row."""

import numpy as np
import pytest

from foggen_exporter.graphs.builder import GraphBuilder, tensor_info
from foggen_exporter.graphs.integer_matmul import (
    integer_product,
    quantize_channels,
    quantize_rows,
    scale_rows,
)
from foggen_exporter.graphs.matrix import Matrix
from foggen_runtime.arrays import Float32
from foggen_runtime.model.quiet_onnxruntime import ort

ROWS, OUTPUTS, INPUTS = 6, 24, 160


@pytest.fixture(scope="module")
def matrix() -> Float32:
    """Weights of one sign, the worst where products of neighbours are added in 16 bits."""
    random = np.random.default_rng(0)
    scales = random.uniform(0.1, 10, (OUTPUTS, 1))
    weights: Float32 = (np.abs(random.normal(size=(OUTPUTS, INPUTS))) * scales).astype(np.float32)
    return weights


@pytest.fixture(scope="module")
def session(matrix: Float32) -> ort.InferenceSession:
    g = GraphBuilder(weights=None)
    rows = quantize_rows(g, "x", "y")
    chunks = Matrix("y", matrix.shape, lambda: iter([matrix[:10], matrix[10:]]))
    output = scale_rows(g, integer_product(g, rows, chunks), [rows.scales], "y")
    model = g.model(
        [tensor_info("x", np.float32, [1, "rows", INPUTS])],
        [tensor_info(output, np.float32, [1, "rows", OUTPUTS])],
        "test",
    )
    return ort.InferenceSession(model.SerializeToString())


def inputs() -> Float32:
    return np.random.default_rng(1).normal(size=(1, ROWS, INPUTS)).astype(np.float32)


def test_products_are_near_those_of_fp32(session: ort.InferenceSession, matrix: Float32) -> None:
    (y,) = session.run(None, {"x": inputs()})
    expected = inputs() @ matrix.T
    error = np.linalg.norm(y - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() < 0.03


@pytest.mark.parametrize("inputs", [1, 2, 7, INPUTS])
@pytest.mark.parametrize("sign", [1, -1])
def test_no_pair_of_neighbours_can_saturate_16_bits(inputs: int, sign: int) -> None:
    random = np.random.default_rng(inputs)
    rows = (sign * np.abs(random.normal(size=(OUTPUTS, inputs)))).astype(np.float32)
    rows[0] = sign  # both weights of every pair are the largest there is
    rounded, scales = quantize_channels(rows)
    weights = rounded.T.astype(np.int32)
    even, odd = weights[:, 0::2], weights[:, 1::2]
    pairs = even[:, : odd.shape[1]] + odd
    activation = 255  # the largest uint8
    assert np.abs(activation * pairs).max(initial=0) <= np.iinfo(np.int16).max
    assert np.abs(weights).max() <= 127
    assert np.abs(weights * scales[:, None] - rows).max(axis=1) == pytest.approx(
        np.zeros(OUTPUTS), abs=float(scales.max()) / 2 * 1.001
    )


def test_neighbours_of_opposite_signs_use_all_of_8_bits() -> None:
    rows = np.array([[3, -3, 1, 0]], np.float32)
    rounded, scales = quantize_channels(rows)
    assert np.array_equal(rounded.T, [[127, -127, 42, 0]])
    assert scales == pytest.approx([3 / 127])


def test_an_outlier_in_one_row_costs_the_others_nothing(session: ort.InferenceSession) -> None:
    (before,) = session.run(None, {"x": inputs()})
    x = inputs()
    x[0, 2, 5] = 1000
    (after,) = session.run(None, {"x": x})
    others = [row for row in range(ROWS) if row != 2]
    assert np.array_equal(after[:, others], before[:, others])
    assert not np.array_equal(after[:, 2], before[:, 2])


def test_a_row_of_zeros_gives_zeros(session: ort.InferenceSession) -> None:
    x = inputs()
    x[0, 1] = 0
    (y,) = session.run(None, {"x": x})
    assert (y[0, 1] == 0).all()
    assert np.isfinite(y).all()
