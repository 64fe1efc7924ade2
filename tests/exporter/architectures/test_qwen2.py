"""Qwen2: the fp32 graph against transformers, every recipe beside fp32, and its biases folded."""

import json
from pathlib import Path

import pytest
import torch

from foggen_exporter.architectures.channels import Channels, Exponents
from foggen_exporter.calibration.activations import CalibrationPrompts, layer_inputs
from foggen_exporter.calibration.smoothing import layer_scales
from foggen_exporter.recipes.recipe import RECIPES, find_recipe
from foggen_exporter.request import HeadKind
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_exporter.weights.folding import FoldedCheckpoint
from foggen_runtime.errors import CheckpointError
from tests.support.checkpoints import TinyQwen2, edit_json, write_checkpoint
from tests.support.random_bundle import export_graph, random_ids
from tests.support.references import (
    check_greedy,
    check_logits,
    check_recipe,
    folded_graph_error,
    load_reference,
    reference_logits,
    relative,
    write_with_tokenizer,
)

SHAPES = {
    "tied": TinyQwen2(),
    "untied": TinyQwen2(tie_word_embeddings=False),
    "as many key/value heads": TinyQwen2(num_key_value_heads=4),
    "9 heads and 3": TinyQwen2(hidden_size=576, num_attention_heads=9, num_key_value_heads=3),
    "heads of 80": TinyQwen2(head_dim=80),
    "heads of 128": TinyQwen2(head_dim=128),
    "heads of 256": TinyQwen2(head_dim=256),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_logits_equal_those_of_transformers(tmp_path: Path, shape: TinyQwen2) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    check_logits(checkpoint, tmp_path / "graph")


def test_a_config_like_qwens_own_reads_the_same(tmp_path: Path) -> None:
    """Without head_dim, and with windows that are described and not used."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", TinyQwen2(head_dim=32))
    before = Checkpoint.open(checkpoint).config

    def change(config: dict[str, object]) -> None:
        del config["head_dim"], config["layer_types"], config["rope_parameters"]
        config.update(rope_theta=1e6, sliding_window=32, max_window_layers=1, use_mrope=False)

    edit_json(checkpoint / "config.json", change)
    assert Checkpoint.open(checkpoint).config == before
    check_logits(checkpoint, tmp_path / "graph")


def test_greedy_tokens_are_those_of_transformers(tmp_path: Path) -> None:
    check_greedy(write_checkpoint(tmp_path / "checkpoint", TinyQwen2()), tmp_path / "graph", 6)


@pytest.mark.long
def test_greedy_tokens_of_many_prompts_are_those_of_transformers(tmp_path: Path) -> None:
    check_greedy(write_checkpoint(tmp_path / "checkpoint", TinyQwen2()), tmp_path / "graph", 200)


def test_biases_are_folded_with_the_rows_they_are_added_to(tmp_path: Path) -> None:
    source = Checkpoint.open(write_checkpoint(tmp_path / "checkpoint", TinyQwen2()))
    ids = tuple(random_ids(40, 300))
    scales: dict[Channels, Exponents] = {}
    prompts = CalibrationPrompts(ids[:8], (ids[8:],), tail=9)
    for index, inputs in enumerate(layer_inputs(source, prompts)):
        for channels, exponents in layer_scales(source, index, inputs).items():
            assert exponents.any()
            scales[channels] = exponents + 3  # all of them, and by enough to show
    folded = FoldedCheckpoint.of(source, scales)
    bias = "model.layers.0.self_attn.v_proj.bias"
    assert relative(folded.tensor(bias), source.tensor(bias)) > 0.5
    assert folded_graph_error(source, folded, tmp_path) < 1e-6


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = TinyQwen2(vocab_size=1152, hidden_size=256, dtype=torch.float32)
    return write_with_tokenizer(tmp_path_factory.mktemp("checkpoint"), shape)


@pytest.mark.parametrize("head", ["full", "choices"])
@pytest.mark.parametrize("quant", RECIPES)
def test_every_recipe_comes_near_it(
    quant: str, head: HeadKind, checkpoint: Path, tmp_path: Path
) -> None:
    check_recipe(checkpoint, tmp_path, quant, head)
    if head == "full":
        assert json.loads((tmp_path / "genai_config.json").read_text())["model"]["type"] == "qwen2"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"use_sliding_window": True}, "use_sliding_window: only false is supported, is true"),
        ({"layer_types": ["sliding_attention"]}, 'layer_types: only "full_attention" is supported'),
        ({"use_mrope": True}, "use_mrope: only false is supported, is true"),
        ({"hidden_act": "gelu"}, 'hidden_act: only "silu" is supported, is "gelu"'),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}},
            'rope_parameters.rope_type: only "default" is supported, is "yarn"',
        ),
        ({"architectures": ["Qwen2MoeForCausalLM"]}, "is ['Qwen2MoeForCausalLM']"),
    ],
)
def test_a_variant_that_is_not_built_is_refused(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    checkpoint = write_checkpoint(tmp_path, TinyQwen2(num_hidden_layers=1))
    edit_json(checkpoint / "config.json", lambda config: config.update(change))
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(checkpoint)
    assert complaint in str(caught.value)


def test_integer_products_get_their_scales_before_their_biases(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", TinyQwen2())
    ids = random_ids(40, 300)
    expected = reference_logits(load_reference(checkpoint), ids)
    exported = export_graph(
        Checkpoint.open(checkpoint), tmp_path / "graph", find_recipe("int8"), tail=40
    )
    assert relative(exported.engine().forward(ids), expected) < 0.3
