"""Injected outliers: the same logits, from very different activations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen3ForCausalLM

from foggen_exporter.architectures.layers import Layer, embed, fp32_graph
from foggen_exporter.calibration.activations import CalibrationPrompts, layer_inputs
from foggen_exporter.weights.checkpoint import Checkpoint
from tests.support.checkpoints import write_checkpoint
from tests.support.outliers import (
    PLACES,
    FirstTokenOutliers,
    Outliers,
    Place,
    add_first_token_outliers,
    add_outliers,
)
from tests.support.random_bundle import random_ids

READ_BY: dict[Place, tuple[str, ...]] = {
    "norm": ("qkv_proj", "gate_up_proj"),
    "value": ("o_proj",),
    "up": ("down_proj",),
}


def logits(directory: Path) -> torch.Tensor:
    model = Qwen3ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        result: torch.Tensor = model(torch.tensor([random_ids(30, 300)])).logits
    return result


@pytest.mark.parametrize("place", PLACES)
def test_outliers_change_activations_and_not_what_transformers_computes(
    tmp_path: Path, place: Place
) -> None:
    clean, injected = (write_checkpoint(tmp_path / name) for name in ("clean", "injected"))
    add_outliers(injected, Outliers(1024.0, [place]))
    expected = logits(clean)
    assert (logits(injected) - expected).abs().max() < 1e-4 * expected.abs().max()
    ids = tuple(random_ids(30, 300))
    prompts = CalibrationPrompts(ids[:4], (ids[4:],), tail=26)
    before, after = (
        next(layer_inputs(Checkpoint.open(directory), prompts)) for directory in (clean, injected)
    )
    for name in before:
        grown = np.abs(after[name]).max(axis=0) / np.abs(before[name]).max(axis=0)
        hit = name.removeprefix("layers.0.") in READ_BY[place]
        # A value channel is read once for each of the two query heads of its group.
        expected_count = 0 if not hit else 4 if place == "value" else 2
        assert (grown > 1000).sum() == expected_count
        assert np.allclose(grown[grown < 1000], 1, atol=1e-3)


def test_outliers_of_the_first_tokens_are_theirs_alone(tmp_path: Path) -> None:
    clean, injected = (write_checkpoint(tmp_path / name) for name in ("clean", "injected"))
    start = random_ids(20, 300)
    prompts = [[*start, *random_ids(30, 300, seed=seed)] for seed in range(1, 13)]
    add_first_token_outliers(injected, prompts[1:], FirstTokenOutliers(4096.0, tokens=3))
    expected = logits(clean)
    assert (logits(injected) - expected).abs().max() < 1e-5 * expected.abs().max()
    source = Checkpoint.open(injected)
    graph = fp32_graph(source, positions=50, tail=50)
    hidden = Layer(graph, 0).run(embed(source, prompts[0])).hidden
    rows = np.abs(Layer(graph, 1).run(hidden).inputs["layers.1.down_proj"])
    median = np.median(rows[:, :256])
    assert rows[:3].max(axis=1).min() > 1000 * median
    assert rows[3:, 256:].max() < median
