"""Llama: the fp32 graph against transformers, every recipe beside fp32, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from foggen_exporter.architectures.llama3_scaling import Llama3Scaling
from foggen_exporter.recipes.recipe import RECIPES
from foggen_exporter.request import HeadKind
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.errors import CheckpointError
from tests.support.checkpoints import (
    TinyLlama,
    edit_json,
    edit_tensors,
    use_transformers_4_config,
    write_checkpoint,
)
from tests.support.references import (
    check_greedy,
    check_logits,
    check_recipe,
    write_with_tokenizer,
)

SHAPES = {
    "tied": TinyLlama(),
    "untied": TinyLlama(tie_word_embeddings=False),
    "as many key/value heads": TinyLlama(num_key_value_heads=4),
    "9 heads and 3": TinyLlama(hidden_size=576, num_attention_heads=9, num_key_value_heads=3),
    "one key/value head": TinyLlama(num_key_value_heads=1),
    "heads of 80": TinyLlama(head_dim=80),
    "heads of 96": TinyLlama(head_dim=96),
    "heads of 128": TinyLlama(head_dim=128),
    "heads of 256": TinyLlama(head_dim=256),
    "llama3": TinyLlama(original_length=64, rope_theta=1e4),
    "llama3, large theta": TinyLlama(original_length=128, rope_theta=5e5, head_dim=128),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_logits_equal_those_of_transformers(tmp_path: Path, shape: TinyLlama) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    length = 90 if shape.original_length is None else 4 * shape.original_length
    check_logits(checkpoint, tmp_path / "graph", length)


def test_fields_that_are_left_out_are_those_of_transformers(tmp_path: Path) -> None:
    shape = TinyLlama(head_dim=32, num_key_value_heads=4, rope_theta=1e4, tie_word_embeddings=False)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    left_out = ("head_dim", "rope_parameters", "tie_word_embeddings", "attention_bias", "mlp_bias")

    def change(config: dict[str, object]) -> None:
        for name in left_out:
            del config[name]
        config["num_key_value_heads"] = None

    before = Checkpoint.open(checkpoint).config
    edit_json(checkpoint / "config.json", change)
    assert Checkpoint.open(checkpoint).config == before
    check_logits(checkpoint, tmp_path / "graph")


def test_a_config_of_transformers_4_reads_the_same(tmp_path: Path) -> None:
    shape = TinyLlama(original_length=64)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    new = Checkpoint.open(checkpoint).config
    scaling = json.loads((checkpoint / "config.json").read_text())["rope_parameters"]
    edit_json(checkpoint / "config.json", lambda config: config.update(layer_types=None))
    use_transformers_4_config(checkpoint)
    del scaling["rope_theta"]
    edit_json(checkpoint / "config.json", lambda config: config.update(rope_scaling=scaling))
    assert Checkpoint.open(checkpoint).config == new


def test_frequencies_that_old_checkpoints_hold_are_passed_over(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", TinyLlama())
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit_tensors(checkpoint, lambda tensors: tensors.update({name: torch.ones(32)}))
    check_logits(checkpoint, tmp_path / "graph")


def test_greedy_tokens_are_those_of_transformers(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", TinyLlama(original_length=32))
    check_greedy(checkpoint, tmp_path / "graph", 6)


@pytest.mark.long
def test_greedy_tokens_of_many_prompts_are_those_of_transformers(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", TinyLlama(original_length=32))
    check_greedy(checkpoint, tmp_path / "graph", 200)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = TinyLlama(vocab_size=1152, hidden_size=256, dtype=torch.float32)
    return write_with_tokenizer(tmp_path_factory.mktemp("checkpoint"), shape)


@pytest.mark.parametrize("head", ["full", "choices"])
@pytest.mark.parametrize("quant", RECIPES)
def test_every_recipe_comes_near_it(
    quant: str, head: HeadKind, checkpoint: Path, tmp_path: Path
) -> None:
    check_recipe(checkpoint, tmp_path, quant, head)
    if head == "full":
        assert json.loads((tmp_path / "genai_config.json").read_text())["model"]["type"] == "llama"


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"attention_bias": True}, "attention_bias: only false is supported, is true"),
        ({"mlp_bias": True}, "mlp_bias: only false is supported, is true"),
        ({"hidden_act": "gelu"}, 'hidden_act: only "silu" is supported, is "gelu"'),
        ({"pretraining_tp": 2}, "pretraining_tp: only 1 is supported, is 2"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping: only null is supported, is 50"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping: only null is supported"),
        *(
            (
                {"rope_parameters": {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0}},
                f'rope_parameters.rope_type: only "default or llama3" is supported, is "{kind}"',
            )
            for kind in ("yarn", "linear", "dynamic", "longrope")
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            'rope_scaling.rope_type: only "default or llama3" is supported, is "linear"',
        ),
        (
            {"rope_parameters": {**LLAMA3, "factor": None}},
            "rope_parameters: factor: must be a number, is null",
        ),
        (
            {"rope_parameters": {**LLAMA3, "factor": 0.5}},
            "rope_parameters: factor: must be at least 1, is 0.5",
        ),
        (
            {"rope_parameters": {**LLAMA3, "low_freq_factor": 4.0}},
            "rope_parameters: low_freq_factor: must be positive and below high_freq_factor (4.0)",
        ),
        (
            {"rope_parameters": {**LLAMA3, "original_max_position_embeddings": 0}},
            "rope_parameters: original_max_position_embeddings: must be at least 1, is 0",
        ),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}},
            "rope_parameters: field 'factor' is missing",
        ),
        ({"architectures": ["MixtralForCausalLM"]}, "is ['MixtralForCausalLM']; --graph optimum"),
    ],
)
def test_a_variant_that_is_not_built_is_refused(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    checkpoint = write_checkpoint(tmp_path, TinyLlama(num_hidden_layers=1))
    edit_json(checkpoint / "config.json", lambda config: config.update(change))
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(checkpoint)
    assert complaint in str(caught.value)


def test_only_slow_waves_are_slowed_down() -> None:
    scaling = Llama3Scaling(8.0, 1.0, 4.0, 64)
    once = 2 * np.pi / 64  # radians per position of a wave that goes round once in 64 positions
    turns = np.array([0.5, 1, 2.5, 4, 9], np.float32)
    factors = scaling.scaled(turns * np.float32(once)) / (turns * once)
    np.testing.assert_allclose(factors, [1 / 8, 1 / 8, 9 / 16, 1, 1], rtol=1e-5)
