"""The damage of each group, against transformers with weights rounded the same."""

from collections.abc import Generator, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Qwen3ForCausalLM

from foggen_exporter.calibration.activations import CalibrationPrompts, layer_inputs
from foggen_exporter.calibration.damage import DamageSearch, damage_steps
from foggen_exporter.calibration.probes import Choice, Probe, ProbeSet
from foggen_exporter.recipes.block_quantization import (
    BlockFormat,
    dequantize_blocks,
    quantize_blocks,
)
from foggen_exporter.recipes.recipe import Recipe
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.bundle.manifest import WeightFormat
from tests.support.checkpoints import TinyQwen3, write_checkpoint
from tests.support.random_bundle import random_ids

PREFIX = random_ids(9, 300)
SUFFIXES = (random_ids(20, 300, seed=1), random_ids(14, 300, seed=2))
FORM = WeightFormat(4, 32, symmetric=False, accuracy_level=1)
RECIPE = Recipe("test", FORM, FORM, finer=WeightFormat(8, 32, symmetric=True, accuracy_level=1))
TENSORS = {
    "qkv_proj": [f"self_attn.{part}_proj" for part in "qkv"],
    "o_proj": ["self_attn.o_proj"],
    "gate_up_proj": ["mlp.gate_proj", "mlp.up_proj"],
    "down_proj": ["mlp.down_proj"],
}


def probe_set() -> ProbeSet:
    """Two choices of a level on the way, one of them taken, and an answer."""
    choices = [
        (Choice(-6, (3, 70), 1), Choice(-4, (8, 9, 200), 0), Choice(-1, (40, 41, 42, 43), None)),
        (Choice(-5, (3, 70), 0), Choice(-1, (40, 41), None)),
    ]
    probes = [Probe(tuple(ids), some) for ids, some in zip(SUFFIXES, choices, strict=True)]
    return ProbeSet(tuple(PREFIX), tuple(probes))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep transformers from dealing out products that are too small for it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = TinyQwen3(tie_word_embeddings=request.param)
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"), shape)


def finish(steps: Generator[str, None, dict[str, float]]) -> tuple[list[str], dict[str, float]]:
    names = []
    while True:
        try:
            names.append(next(steps))
        except StopIteration as stop:
            return names, stop.value


def rounded(weight: torch.Tensor) -> torch.Tensor:
    form = BlockFormat(4, 32, symmetric=False)
    return torch.tensor(dequantize_blocks(quantize_blocks(weight.numpy(), form), form))


def choices(model: Qwen3ForCausalLM, intact: Qwen3ForCausalLM) -> list[list[torch.Tensor]]:
    """Return the log probabilities at every choice, the prefix computed by the intact model."""
    found = []
    for probe in probe_set().probes:
        past = intact(torch.tensor([PREFIX]), use_cache=True).past_key_values
        # By position: transformers 5.24 calls it `cache`, those before `past_key_values`.
        logits = model(torch.tensor([probe.ids]), None, None, past).logits[0]
        found.append([logits[c.row][list(c.tokens)].log_softmax(0) for c in probe.choices])
    return found


def expected_damage(intact: Qwen3ForCausalLM, group: str) -> float:
    """Return the divergence from fp32, a choice of level counting as it is reached."""
    model = deepcopy(intact)
    names = ["model.embed_tokens", "lm_head"]
    if group != "embedding":
        layer, _, matrix = group.rpartition(".")
        names = [f"model.{layer}.{tensor}" for tensor in TENSORS[matrix]]
    with torch.no_grad():
        for weight in {model.get_parameter(f"{name}.weight") for name in names}:
            weight.copy_(rounded(weight))
        pairs = zip(choices(intact, intact), choices(model, intact), strict=True)
    total = 0.0
    for probe, (one, other) in zip(probe_set().probes, pairs, strict=True):
        reached = 1.0
        for choice, p, q in zip(probe.choices, one, other, strict=True):
            divergence = float((p.exp() * (p - q)).sum())
            if choice.taken is None:
                total += divergence
            else:
                total += reached * divergence
                reached *= float(p[choice.taken].exp())
    return total / len(SUFFIXES)


def test_damage_is_how_far_decisions_diverge_with_one_group_rounded(directory: Path) -> None:
    source = Checkpoint.open(directory)
    names, damage = finish(DamageSearch(source, RECIPE, probe_set()).steps(iter(())))
    assert len(names) == len(set(names)) == damage_steps(source.config)
    matrices = [f"layers.{index}.{name}" for index in range(2) for name in TENSORS]
    assert set(damage) == {"embedding", *matrices}
    intact = Qwen3ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    for group, found in damage.items():
        assert found == pytest.approx(expected_damage(intact, group), rel=0.02, abs=1e-6)
        assert found > 1e-5


def test_error_feedback_does_less_damage(directory: Path) -> None:
    source = Checkpoint.open(directory)
    probes = probe_set()
    prompts = CalibrationPrompts(probes.prefix_ids, tuple(p.ids for p in probes.probes), tail=6)
    damages = [
        finish(DamageSearch(source, recipe, probes).steps(inputs))[1]
        for recipe, inputs in (
            (RECIPE, iter(())),
            (replace(RECIPE, error_feedback=True), layer_inputs(source, prompts)),
        )
    ]
    matrices = [name for name in damages[0] if name != "embedding"]
    nearest, fed_back = (sum(damage[name] for name in matrices) for damage in damages)
    assert fed_back < 0.7 * nearest


def test_eight_bits_do_next_to_no_damage(directory: Path) -> None:
    """Choosing the finer groups takes it to be none."""
    source = Checkpoint.open(directory)
    form = replace(FORM, bits=8)
    finer = replace(RECIPE, layers=form, embedding=form)
    damages = [
        finish(DamageSearch(source, recipe, probe_set()).steps(iter(())))[1]
        for recipe in (RECIPE, finer)
    ]
    for group, four_bits in damages[0].items():
        assert damages[1][group] < 0.1 * four_bits
