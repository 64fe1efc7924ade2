"""Moving outliers into weights: the function stays, the activations become even."""

from pathlib import Path

import numpy as np
import pytest

from foggen_exporter.architectures.channels import Channels, Exponents
from foggen_exporter.calibration.activations import CalibrationPrompts, layer_inputs
from foggen_exporter.calibration.smoothing import layer_scales
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_exporter.weights.folding import FoldedCheckpoint
from foggen_runtime.arrays import Float32
from tests.support.checkpoints import write_checkpoint
from tests.support.outliers import Outliers, add_outliers
from tests.support.random_bundle import export_graph, random_ids
from tests.support.snapshots import prefix_snapshot

IDS = tuple(random_ids(40, 300))
PROMPTS = CalibrationPrompts(IDS[:8], (IDS[8:],), tail=32)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    directory = write_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    add_outliers(directory, Outliers(256.0))
    return Checkpoint.open(directory)


@pytest.fixture(scope="module")
def scales(base: Checkpoint) -> dict[Channels, Exponents]:
    found: dict[Channels, Exponents] = {}
    for index, inputs in enumerate(layer_inputs(base, PROMPTS)):
        found |= layer_scales(base, index, inputs)
    return found


@pytest.fixture(scope="module")
def folded(base: Checkpoint, scales: dict[Channels, Exponents]) -> FoldedCheckpoint:
    return FoldedCheckpoint.of(base, scales)


def relative(one: Float32, other: Float32) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


def test_the_folded_checkpoint_computes_the_same(
    base: Checkpoint, folded: FoldedCheckpoint, tmp_path: Path
) -> None:
    fp32 = find_recipe("fp32")
    one, other = (
        export_graph(source, tmp_path / name, fp32, tail=40).engine().forward(IDS)
        for name, source in (("base", base), ("folded", folded))
    )
    assert relative(other, one) < 1e-5


def test_single_rows_are_folded_as_all_are(base: Checkpoint, folded: FoldedCheckpoint) -> None:
    for name, entry in base.files.entries.items():
        picked = [entry.shape[0] - 1, 0, 0, 1]
        np.testing.assert_array_equal(folded.take(name, picked), folded.tensor(name)[picked])


def test_every_layer_caches_the_same_keys_and_scaled_values(
    base: Checkpoint, folded: FoldedCheckpoint, scales: dict[Channels, Exponents]
) -> None:
    before, after = prefix_snapshot(base, IDS), prefix_snapshot(folded, IDS)
    for index in range(base.config.num_hidden_layers):
        assert relative(after[index, 0], before[index, 0]) < 1e-5
        (down,) = (
            exponents
            for channels, exponents in scales.items()
            if channels.matrix == f"layers.{index}.o_proj"
        )
        by_head = down.reshape(len(before[index, 1]), 1, -1)
        assert relative(np.ldexp(after[index, 1], by_head), before[index, 1]) < 1e-5
        assert relative(after[index, 1], before[index, 1]) > 0.5


def test_activations_become_even(base: Checkpoint, folded: FoldedCheckpoint) -> None:
    def spread(rows: Float32) -> float:
        largest = np.abs(rows).max(axis=0)
        return float(largest.max() / np.median(largest))

    for before, after in zip(
        layer_inputs(base, PROMPTS), layer_inputs(folded, PROMPTS), strict=True
    ):
        for name in before:
            if name != "logits":
                assert spread(before[name]) > 100
                assert spread(after[name]) < 20


def test_a_shared_value_channel_takes_the_largest_of_its_query_heads() -> None:
    channels = Channels("o", ("v",), ("o",), heads=(2, 2))
    read = np.array([1, 5, 3, 2, 0, 0, 7, 1], np.float32)  # 2 x 2 heads of 2 channels
    assert channels.largest(read).tolist() == [3, 5, 7, 1]
    written = np.array([1, 2, 3, 4], np.int32)
    assert channels.spread(written).tolist() == [1, 2, 1, 2, 3, 4, 3, 4]


def test_channels_out_of_use_keep_bounded_weights(base: Checkpoint) -> None:
    channels = base.config.layer_channels(0)
    inputs = {
        name.matrix: np.zeros((3, base.shape(name.readers[0])[1]), np.float32) for name in channels
    }
    inputs["layers.0.qkv_proj"][:, 0] = 1
    found = layer_scales(base, 0, inputs)
    assert np.ptp(found[channels[0]]) < 20
    assert all(np.isfinite(exponents).all() for exponents in found.values())


def test_rows_and_columns_of_one_tensor_are_both_folded(
    base: Checkpoint, folded: FoldedCheckpoint, scales: dict[Channels, Exponents]
) -> None:
    name = "model.layers.0.self_attn.v_proj.weight"
    qkv, o, *_ = base.config.layer_channels(0)
    expected = np.ldexp(np.ldexp(base.tensor(name), scales[qkv]), -scales[o][:, None])
    assert np.array_equal(folded.tensor(name), expected)
    assert np.array_equal(folded.rows(name, 3, 9), expected[3:9])


def test_the_hash_is_of_the_folded_weights(
    base: Checkpoint, folded: FoldedCheckpoint, scales: dict[Channels, Exponents]
) -> None:
    again = FoldedCheckpoint.of(base, dict(reversed(scales.items())))
    other = FoldedCheckpoint.of(base, {c: e + 1 for c, e in scales.items()})
    hashes = [source.weights_sha256() for source in (base, folded, other)]
    assert len(set(hashes)) == 3
    assert again.weights_sha256() == folded.weights_sha256()
