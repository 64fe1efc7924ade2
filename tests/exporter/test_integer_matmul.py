"""Integer products with one activation scale per row."""

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from foggen_exporter.graph import GraphBuilder, tensor_info
from foggen_exporter.matmul import emit_matmul
from foggen_exporter.matrix import Matrix
from foggen_runtime.manifest import WeightFormat

Float32 = npt.NDArray[np.float32]
FORM = WeightFormat(bits=8, symmetric=True, activation_bits=8)
ROWS, OUTPUTS, INPUTS = 6, 24, 160


@pytest.fixture(scope="module")
def matrix() -> Float32:
    """Weights whose signs take turns: large neighbours of one sign saturate on x86 without VNNI."""
    random = np.random.default_rng(0)
    scales = random.uniform(0.1, 10, (OUTPUTS, 1)) * np.tile([1, -1], INPUTS // 2)
    weights: Float32 = (np.abs(random.normal(size=(OUTPUTS, INPUTS))) * scales).astype(np.float32)
    return weights


@pytest.fixture(scope="module")
def session(matrix: Float32) -> ort.InferenceSession:
    g = GraphBuilder(weights=None)
    output = emit_matmul(
        g, "x", Matrix("y", matrix.shape, lambda: iter([matrix[:10], matrix[10:]])), FORM
    )
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
