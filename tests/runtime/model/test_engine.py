"""The cache and the engine: appending, rolling back, causality."""

import itertools
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.bundle.manifest import ModelInfo
from foggen_runtime.errors import BundleError, ConfigError
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.kv_cache import KvCache
from tests.support.checkpoints import write_checkpoint
from tests.support.random_bundle import POSITIONS, GraphOnly, export_graph, random_ids

RECIPES = ("fp32", "int8", "int8-weight", "int4", "int4-gptq")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GraphOnly]:
    source = Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("checkpoint")))
    return {
        quant: export_graph(source, tmp_path_factory.mktemp(quant), find_recipe(quant))
        for quant in RECIPES
    }


def chunks(seed: int, lengths: Sequence[int]) -> list[slice]:
    """Cut 64 tokens into chunks of random lengths; the last one takes what is left, at least 2."""
    generator = np.random.default_rng(seed)
    edges = [0]
    while 64 - edges[-1] > max(lengths) + 2:
        edges.append(edges[-1] + int(generator.choice(lengths)))
    return [slice(*edge) for edge in itertools.pairwise([*edges, 64])]


@pytest.mark.parametrize(
    ("minimum", "found", "fine"),
    [
        *(("1.27", "1.27.0", True), ("1.27.0", "1.27", True), ("1.27", "1.9.1", False)),
        *(("1.27", "2.0", True), ("1.27.2", "1.27.1", False), ("1.27", "1.28.0.dev5", True)),
        ("99", "1.32.0", False),
    ],
)
def test_a_graph_needs_an_onnxruntime_of_its_time(
    graphs: dict[str, GraphOnly],
    monkeypatch: pytest.MonkeyPatch,
    minimum: str,
    found: str,
    fine: bool,
) -> None:
    monkeypatch.setattr("foggen_runtime.model.engine.ONNXRUNTIME_VERSION", found)
    fp32 = graphs["fp32"]
    needing = replace(fp32, graph=replace(fp32.graph, onnxruntime=minimum))
    if fine:
        needing.engine()
    else:
        message = f"graph.onnxruntime: must be at least {minimum} for this bundle, is {found}"
        with pytest.raises(BundleError, match=message):
            needing.engine()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("num_hidden_layers", 7), ("num_key_value_heads", 7), ("head_dim", 7)),
        ("vocab_size", 7),
    ],
)
def test_the_model_has_the_shape_of_the_graph(
    graphs: dict[str, GraphOnly], field: str, value: int
) -> None:
    fp32 = graphs["fp32"]
    changed: dict[str, Any] = {field: value}
    wrong = replace(fp32, model=replace(fp32.model, **changed))
    with pytest.raises(BundleError, match=rf"model\.{field}: must be \d+ as the graph has"):
        wrong.engine()
    with pytest.raises(BundleError, match=r"graph\.position_ids: must be False as the graph"):
        replace(fp32, graph=replace(fp32.graph, position_ids=True)).engine()


EVEN, WIDE, ANY = (2, 4, 6, 8, 10), tuple(range(2, 12)), tuple(range(1, 12))


# Single rows, and odd remainders at 4 bits, take other kernels than wide chunks do.
@pytest.mark.parametrize(
    ("quant", "lengths"), [("fp32", WIDE), ("int8", WIDE), ("int8-weight", EVEN), ("int4", EVEN)]
)
@pytest.mark.parametrize("seed", range(4))
def test_appending_equals_one_shot_bit_for_bit(
    graphs: dict[str, GraphOnly], quant: str, lengths: Sequence[int], seed: int
) -> None:
    ids = random_ids(64, 300, seed)
    one_shot, appending = graphs[quant].engine(), graphs[quant].engine()
    one_shot.forward(ids)
    for chunk in chunks(seed, lengths):
        appending.forward(ids[chunk])
    assert np.array_equal(appending.cache.snapshot(), one_shot.cache.snapshot())


@pytest.mark.parametrize(
    ("quant", "tolerance"), [("fp32", 1e-5), ("int8", 1e-5), ("int8-weight", 5e-2), ("int4", 5e-2)]
)
@pytest.mark.parametrize("seed", range(4))
def test_appending_any_chunks_equals_one_shot_closely(
    graphs: dict[str, GraphOnly], quant: str, tolerance: float, seed: int
) -> None:
    ids = random_ids(64, 300, seed)
    one_shot = graphs[quant].engine().forward(ids)[-1]
    appending = graphs[quant].engine()
    for chunk in chunks(seed, ANY):
        logits = appending.forward(ids[chunk])[-1]
    assert np.abs(logits - one_shot).max() < tolerance * np.abs(one_shot).max()


@pytest.mark.parametrize("quant", RECIPES)
@pytest.mark.parametrize("seed", range(4))
def test_rolling_back_a_draft_leaves_no_trace(
    graphs: dict[str, GraphOnly], quant: str, seed: int
) -> None:
    ids, draft = random_ids(40, 300, seed), random_ids(6, 300, seed + 100)
    kept = int(np.random.default_rng(seed).integers(0, 6))
    engine = graphs[quant].engine()
    engine.forward(ids)
    engine.forward([*ids[:4], *draft])
    engine.cache.truncate(40 + 4 + kept)
    after = engine.forward(ids[:8])
    fresh = graphs[quant].engine()
    fresh.forward(ids)
    fresh.forward([*ids[:4], *draft])
    fresh.cache.truncate(40)
    fresh.forward([*ids[:4], *draft])  # the same widths, so the same kernels
    fresh.cache.truncate(40 + 4 + kept)
    assert np.array_equal(fresh.forward(ids[:8]), after)
    assert np.array_equal(fresh.cache.snapshot(), engine.cache.snapshot())


@pytest.mark.parametrize("quant", RECIPES)
def test_changing_the_draft_never_changes_an_earlier_row(
    graphs: dict[str, GraphOnly], quant: str
) -> None:
    ids = random_ids(40, 300)
    one, other = graphs[quant].engine(), graphs[quant].engine()
    rows = one.forward([*ids, 1, 2]), other.forward([*ids, 250, 251])
    assert np.array_equal(rows[0][:-2], rows[1][:-2])
    assert not np.array_equal(rows[0][-1], rows[1][-1])
    one.cache.truncate(40)
    other.cache.truncate(40)
    assert np.array_equal(one.cache.snapshot(), other.cache.snapshot())


def test_the_cache_grows_and_keeps_what_it_holds(graphs: dict[str, GraphOnly]) -> None:
    ids = random_ids(400, 300)
    growing, roomy = graphs["fp32"].engine(), graphs["fp32"].engine()
    roomy.cache.reserve(400)
    for start in range(0, 400, 50):
        grown = growing.forward(ids[start : start + 50])
    assert growing.cache.capacity >= 400
    assert growing.cache.nbytes == 2 * 2 * 2 * growing.cache.capacity * 64 * 4
    one_shot = roomy.forward(ids)
    assert np.abs(grown - one_shot).max() < 1e-4


def test_growing_holds_only_one_buffer_twice() -> None:
    model = ModelInfo("", None, "", 8, 4, 4, 64, 300, 4096, (1,))
    tracemalloc.start()
    try:
        cache = KvCache(model)
        cache.length = 100
        old_buffer = cache.keys[0].nbytes
        cache.reserve(2000)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert now >= cache.nbytes
    assert peak < cache.nbytes + 2 * old_buffer


def test_a_restored_snapshot_continues_as_if_computed(graphs: dict[str, GraphOnly]) -> None:
    ids = random_ids(220, 300)
    engine = graphs["int4"].engine()
    engine.forward(ids[:200])  # more than a new cache holds
    snapshot = engine.cache.snapshot()
    continued = engine.forward(ids[200:])
    restored = graphs["int4"].engine()
    restored.cache.restore(snapshot)
    assert np.array_equal(restored.forward(ids[200:]), continued)


def test_the_engine_counts_its_passes(graphs: dict[str, GraphOnly]) -> None:
    engine = graphs["fp32"].engine()
    for _ in range(3):
        engine.forward([1, 2])
    assert engine.forward_passes == 3


def test_the_context_length_is_a_limit(graphs: dict[str, GraphOnly]) -> None:
    engine = graphs["fp32"].engine()
    engine.forward([1] * POSITIONS)
    with pytest.raises(ValueError, match=f"with {POSITIONS} in the cache"):
        engine.forward([1])


def test_truncating_to_more_than_is_held_is_refused(graphs: dict[str, GraphOnly]) -> None:
    cache = KvCache(graphs["fp32"].model)
    with pytest.raises(ValueError, match=r"within \[0, 0\], is 1"):
        cache.truncate(1)


def test_a_broken_graph_is_a_bundle_error(graphs: dict[str, GraphOnly], tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(graphs["fp32"].path.read_bytes()[:1000])
    graph = graphs["fp32"]
    with pytest.raises(BundleError, match="refuses it"):
        GraphOnly(broken, graph.model, graph.graph).engine()


def test_no_threads_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match="threads: must be at least 1, is 0"):
        EngineOptions(threads=0)
