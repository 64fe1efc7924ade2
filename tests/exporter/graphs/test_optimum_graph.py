"""Reading graphs as optimum writes them, and storing their weights anew."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from foggen_exporter.graphs.builder import tensor_info
from foggen_exporter.graphs.optimum_graph import GraphShape, store_graph
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.bundle.manifest import WeightFormat
from foggen_runtime.errors import CheckpointError
from foggen_runtime.model.quiet_onnxruntime import ort
from tests.support.checkpoints import write_checkpoint
from tests.support.random_bundle import export_graph

Shape = list[int | str]

CACHE: Shape = ["batch", 2, "past", 16]


def decoder(
    caches: dict[str, Shape],
    others: tuple[str, ...] = (),
    logits: Shape | None = None,
) -> onnx.ModelProto:
    """Return a graph without nodes."""
    names = ("input_ids", "attention_mask", *others)
    return helper.make_model(
        helper.make_graph(
            [],
            "decoder",
            [
                *(tensor_info(name, np.int64, ["batch", "tokens"]) for name in names),
                *(tensor_info(name, np.float32, shape) for name, shape in caches.items()),
            ],
            [tensor_info("logits", np.float32, logits or ["batch", "tokens", 300])],
        )
    )


def caches(layers: int, shape: Shape = CACHE) -> dict[str, Shape]:
    parts = ("key", "value")
    return {f"past_key_values.{layer}.{part}": shape for layer in range(layers) for part in parts}


def test_a_graph_tells_its_shape() -> None:
    assert GraphShape.of(decoder(caches(3))) == GraphShape(3, 2, 16, 300, position_ids=False)
    assert GraphShape.of(decoder(caches(1), ("position_ids",))).position_ids


def test_our_own_graph_tells_what_its_checkpoint_says(tmp_path: Path) -> None:
    source = Checkpoint.open(write_checkpoint(tmp_path / "checkpoint"))
    exported = export_graph(source, tmp_path / "bundle", find_recipe("fp32"))
    shape = GraphShape.of(onnx.load_model(exported.path, load_external_data=False))
    config = source.config
    assert (shape.num_hidden_layers, shape.head_dim) == (config.num_hidden_layers, config.head_dim)
    assert shape.num_key_value_heads == config.num_key_value_heads
    assert shape.vocab_size == config.vocab_size


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (decoder({}), "inputs must be tokens, mask.* are input_ids, attention_mask$"),
        (decoder(caches(1), ("token_type_ids",)), "inputs must be .* token_type_ids"),
        (decoder({"past_key_values.0.key": CACHE}), "inputs must be"),
        (decoder({"past_key_values.0": CACHE, "past_key_values.1": CACHE}), "inputs must be"),
        (decoder(caches(1, ["batch", 2, 16])), r"must all be \(batch, heads"),
        (decoder(caches(1, ["batch", "heads", "past", 16])), "must all be"),
        (
            decoder({**caches(1), "past_key_values.0.key": ["batch", 2, "past", 8]}),
            r"past_key_values.0.key is \(0, 2, 0, 8\)",
        ),
        (decoder(caches(1), logits=["batch", "tokens", "any"]), "logits must be an output"),
    ],
)
def test_other_kinds_of_graphs_are_refused(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        GraphShape.of(model)


def product_graph(directory: Path, op_type: str = "MatMul") -> Path:
    """Write y = (table[ids] @ weight) * gain, with the weights in a file as large ones are."""
    random = np.random.default_rng(0)
    weights = {
        "table": random.standard_normal((10, 128), np.float32),
        "weight": random.standard_normal((128, 48), np.float32),
        "gain": random.standard_normal(48, np.float32),
        "unused": random.standard_normal(512, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node(op_type, ["x", "weight"], ["product"], name="product"),
        helper.make_node("Mul", ["product", "gain"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["tokens"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", 48])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = directory / "traced.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="traced.onnx_data")
    return path


def run(path: Path) -> np.ndarray:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"ids": np.arange(10)})
    return np.asarray(y)


@pytest.mark.parametrize(("quant", "error"), [("fp32", 0), ("int8-weight", 0.02), ("int4", 0.15)])
def test_a_stored_graph_computes_what_it_did(tmp_path: Path, quant: str, error: float) -> None:
    traced, stored = product_graph(tmp_path), tmp_path / "model.onnx"
    store_graph(traced, stored, find_recipe(quant).layers)
    before = run(traced)
    traced.unlink()
    traced.with_name("traced.onnx_data").unlink()
    after = run(stored)
    deviation = np.abs(after - before).max() / np.abs(before).max()
    assert deviation <= error
    assert (deviation > 0) == (error > 0)


def test_products_are_stored_in_the_recipe_s_blocks(tmp_path: Path) -> None:
    store_graph(product_graph(tmp_path), tmp_path / "model.onnx", find_recipe("int4").layers)
    graph = onnx.load_model(tmp_path / "model.onnx", load_external_data=False).graph
    assert [node.op_type for node in graph.node] == ["Gather", "MatMulNBits", "Mul"]
    assert {tensor.name for tensor in graph.initializer} == {
        *("table", "gain", "product.weight", "product.scales", "product.zero_points")
    }
    files = {entry.value for tensor in graph.initializer for entry in tensor.external_data}
    assert "model.onnx.data" in files


def test_blocks_that_do_not_divide_a_product_are_refused(tmp_path: Path) -> None:
    form = WeightFormat(4, 96, symmetric=True)
    with pytest.raises(CheckpointError, match=r"product: .* multiple of the block size 96, is 128"):
        store_graph(product_graph(tmp_path), tmp_path / "model.onnx", form)


def test_weights_that_are_no_matrices_of_matmul_stay_in_fp32(tmp_path: Path) -> None:
    traced = product_graph(tmp_path, "Gemm")
    with pytest.raises(CheckpointError, match=r"product are \[128, 48\] of Gemm; export it in"):
        store_graph(traced, tmp_path / "model.onnx", find_recipe("int4").layers)
    store_graph(traced, tmp_path / "model.onnx", find_recipe("fp32").layers)
    assert np.array_equal(run(tmp_path / "model.onnx"), run(traced))
