"""Graphs whose past and present are buffers of their own, as other exporters write them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foggen_runtime import Foggen
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import GraphInfo, ModelInfo
from foggen_runtime.model.decoding import Decoding, DecodingMode
from foggen_runtime.model.engine import Engine, EngineOptions
from foggen_runtime.model.kv_cache import KvCache
from foggen_runtime.model.local_model import OpenOptions
from tests.conftest import BundleOf

OPTIONS = EngineOptions(threads=1, spinning=False)


def separate(bundle: Bundle) -> Bundle:
    """Drive the graph of a bundle as one that cannot append in place."""
    graph = replace(bundle.manifest.graph, shared_cache=False)
    return replace(bundle, manifest=replace(bundle.manifest, graph=graph))


def engine_of(bundle: Bundle) -> Engine:
    manifest = bundle.manifest
    return Engine(
        bundle.path(manifest.graph.file), manifest.graph, OPTIONS, KvCache(manifest.model)
    )


@pytest.fixture
def engines(tiny_bundle: BundleOf) -> tuple[Engine, Engine]:
    """Two engines of one graph: with separate buffers, and with shared ones."""
    bundle = Bundle.open(tiny_bundle("fp32"))
    return engine_of(separate(bundle)), engine_of(bundle)


def test_appending_and_rolling_back_equal_the_shared_cache(
    engines: tuple[Engine, Engine],
) -> None:
    rows, held = [], []
    for engine in engines:
        rows.append(engine.forward(range(40)))
        engine.forward(range(40, 46))
        engine.cache.truncate(43)  # in the midst of what was appended
        rows.append(engine.forward(range(100, 110)))
        engine.cache.truncate(0)
        engine.forward(range(7))
        snapshot = engine.cache.snapshot()
        engine.cache.restore(np.concatenate([snapshot, snapshot], axis=3))
        rows.append(engine.forward(range(200, 204)))
        held.append(engine.cache.snapshot())
        assert engine.cache.length == 18
    for one, other in zip(rows[:3], rows[3:], strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(held[0], held[1])


def test_separate_buffers_hold_no_more_than_the_tokens(engines: tuple[Engine, Engine]) -> None:
    engine, _ = engines
    engine.forward(range(20))
    assert engine.cache.capacity == engine.cache.length == 20
    assert engine.cache.nbytes == engine.cache.snapshot().nbytes


@pytest.mark.parametrize("mode", ["step", "greedy", "constrained"])
def test_questions_are_answered_as_with_the_shared_cache(
    tiny_bundle: BundleOf, tmp_path: Path, mode: DecodingMode
) -> None:
    shared = tiny_bundle("fp32")
    copied = tmp_path / "separate"
    copied.mkdir()
    for path in shared.iterdir():
        (copied / path.name).hardlink_to(path)
    (copied / "foggen.json").unlink()
    separate(Bundle.open(shared)).manifest.save(copied)
    answers = []
    for bundle in (shared, copied):
        with Foggen.open(bundle, options=OpenOptions(engine=OPTIONS)) as foggen:
            results = [
                foggen.ask(f"Which is larger? A) {a} B) 5", decoding=Decoding(mode=mode))
                for a in (3, 9)
            ]
        answers.append([(r.answer, r.confidence, r.level_probabilities) for r in results])
    assert answers[0] == answers[1]


def test_trimming_keeps_what_is_held() -> None:
    cache = KvCache(ModelInfo("", None, "", 1, 1, 2, 4, 300, 4096, (1,)))
    cache.restore(np.arange(2 * 2 * 3 * 4, dtype=np.float32).reshape(1, 2, 2, 3, 4))
    before = cache.snapshot()
    cache.truncate(2)
    cache.trim()
    assert cache.capacity == 2
    assert cache.keys[0].flags.c_contiguous
    assert np.array_equal(cache.snapshot(), before[:, :, :, :2])


class TestOtherGraphs:
    """A graph of known arithmetic: positions as an input, and logits for every position."""

    @pytest.fixture
    def engine(self, tmp_path: Path) -> Engine:
        path = tmp_path / "model.onnx"
        write_arithmetic_graph(path)
        model = ModelInfo("", None, "", 1, 1, 1, 1, 4, 2000, (1,))
        graph = GraphInfo(path.name, 2000, "1.27", shared_cache=False, position_ids=True)
        return Engine(path, graph, OPTIONS, KvCache(model))

    def test_positions_and_mask_go_on_where_the_cache_ends(self, engine: Engine) -> None:
        engine.forward([5, 6, 7])
        engine.cache.truncate(2)
        rows = engine.forward([8, 9])
        held = 5 + 6 + 8 + 9
        assert rows.tolist() == [[8, 2, held, 4], [9, 3, held, 4]]

    def test_every_position_of_a_pass_gets_logits(self, engine: Engine) -> None:
        rows = engine.forward(range(300))
        assert rows[:, 0].tolist() == list(range(300))

    def test_long_prompts_give_the_rows_the_engine_promises(self, engine: Engine) -> None:
        rows = engine.forward([1] * 1200)
        assert rows.shape == (engine.logits_tail, 4)
        assert rows[:, 1].tolist() == list(range(1200 - engine.logits_tail, 1200))


def write_arithmetic_graph(path: Path) -> None:
    """Write a graph whose logits are the token, its position, the sum of all and the mask's.

    The key of a token is the token, its value the position.
    """
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    inputs = {"input_ids": ["s"], "attention_mask": ["total"], "position_ids": ["s"]}
    caches = {"key": "tokens", "value": "positions"}
    nodes = [
        helper.make_node("Cast", [name], [as_float], to=kind.FLOAT)
        for name, as_float in zip(inputs, ("tokens", "mask", "positions"), strict=True)
    ]
    for part, new in caches.items():
        past, present = f"past_key_values.0.{part}", f"present.0.{part}"
        nodes += [
            helper.make_node("Unsqueeze", [new, "head_axes"], [part]),
            helper.make_node("Concat", [past, part], [present], axis=2),
        ]
    nodes += [
        helper.make_node("ReduceSum", ["present.0.key", "head_axes"], ["all_keys"], keepdims=0),
        helper.make_node("ReduceSum", ["all_keys", "row_axis"], ["sum"]),
        helper.make_node("ReduceSum", ["mask", "row_axis"], ["mask_sum"]),
        helper.make_node("Shape", ["tokens"], ["shape"]),
        helper.make_node("Expand", ["sum", "shape"], ["sums"]),
        helper.make_node("Expand", ["mask_sum", "shape"], ["mask_sums"]),
    ]
    columns = ("tokens", "positions", "sums", "mask_sums")
    for name in columns:
        nodes.append(helper.make_node("Unsqueeze", [name, "last_axis"], [f"{name}_column"]))
    nodes.append(
        helper.make_node("Concat", [f"{name}_column" for name in columns], ["logits"], axis=2)
    )
    axes = {"head_axes": [1, 3], "row_axis": [1], "last_axis": [2]}
    graph = helper.make_graph(
        nodes,
        "arithmetic",
        [
            *(helper.make_tensor_value_info(n, kind.INT64, [1, *s]) for n, s in inputs.items()),
            *(
                helper.make_tensor_value_info(
                    f"past_key_values.0.{part}", kind.FLOAT, [1, 1, "past", 1]
                )
                for part in caches
            ),
        ],
        [
            helper.make_tensor_value_info("logits", kind.FLOAT, [1, "s", 4]),
            *(
                helper.make_tensor_value_info(f"present.0.{part}", kind.FLOAT, [1, 1, "total", 1])
                for part in caches
            ),
        ],
        [onnx.numpy_helper.from_array(np.array(axis), name) for name, axis in axes.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
