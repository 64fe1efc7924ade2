"""Which groups get more bits under a budget, and what weights take in the file."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from foggen_exporter.calibration.budget import WeightSizes, choose_finer
from foggen_exporter.graphs.builder import ALIGNMENT
from foggen_exporter.recipes.recipe import Recipe, find_recipe
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.errors import ConfigError
from tests.support.checkpoints import TinyQwen3, write_checkpoint
from tests.support.random_bundle import POSITIONS, export_graph

MIXED = find_recipe("int4-mixed")
FINER = [frozenset[str](), frozenset({"embedding", "layers.0.o_proj", "layers.1.gate_up_proj"})]


def best(damage: dict[str, float], extra: dict[str, int], room: int) -> float:
    """Return the most damage that any set of groups avoids, by trying all."""
    sets = (c for size in range(len(damage) + 1) for c in combinations(damage, size))
    fitting = (c for c in sets if sum(extra[name] for name in c) <= room)
    return max(sum(damage[name] for name in c) for c in fitting)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_choice_avoids_more_damage(seed: int) -> None:
    random = np.random.default_rng(seed)
    names = [f"g{i}" for i in range(9)]
    damage = dict(zip(names, random.exponential(size=9).tolist(), strict=True))
    extra = dict(zip(names, random.integers(1, 9, 9).tolist(), strict=True))
    usual = dict.fromkeys(names, 4)
    sizes = WeightSizes(usual, {name: 4 + extra[name] for name in names}, rest=3)
    for room in (0, 1, 7, 20, sum(extra.values()), 10**9):
        chosen = choose_finer(damage, sizes, room)
        assert sum(extra[name] for name in chosen) <= room
        assert sum(damage[name] for name in chosen) == pytest.approx(best(damage, extra, room))


@pytest.mark.parametrize("finer", FINER, ids=["none", "some"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("hidden_size", [128, 96])  # 64 divides the former
def test_sizes_are_those_of_the_file(
    tmp_path: Path, finer: frozenset[str], symmetric: bool, tied: bool, hidden_size: int
) -> None:
    shape = TinyQwen3(vocab_size=11000, tie_word_embeddings=tied, hidden_size=hidden_size)
    source = Checkpoint.open(write_checkpoint(tmp_path / "checkpoint", shape))
    recipe: Recipe = MIXED.with_blocks(64, symmetric=symmetric)
    sizes = WeightSizes.of(source, recipe, POSITIONS, 0 if tied else 11000)
    pages = sizes.smallest + sum(sizes.finer[name] - sizes.usual[name] for name in finer)
    exported = export_graph(source, tmp_path / "graph", recipe.with_finer(finer))
    size = (exported.path.parent / "model.onnx.data").stat().st_size
    # Norm gains and zero points of a few bytes lie in the graph instead.
    inline = 8 * source.config.num_hidden_layers + 1
    assert (pages - inline - 1) * ALIGNMENT < size <= pages * ALIGNMENT


def test_room_is_what_a_budget_leaves() -> None:
    sizes = WeightSizes({"a": 70, "embedding": 20}, {"a": 140, "embedding": 40}, rest=10)
    assert sizes.room(None) == 10
    assert sizes.room(120 * ALIGNMENT + 5) == 20
    assert sizes.room(100 * ALIGNMENT) == 0
    with pytest.raises(ConfigError, match=r"budget: must be at least 0\.4 MB, .* is 0\.4095 MB"):
        sizes.room(409_500)
