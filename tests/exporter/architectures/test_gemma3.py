"""Gemma 3: the fp32 graph against transformers, every recipe beside fp32, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from foggen_exporter.recipes.recipe import RECIPES
from foggen_exporter.request import HeadKind
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime import Foggen
from foggen_runtime.errors import CheckpointError
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.chat_templates import CHAT_FORMATS
from tests.support.checkpoints import TinyGemma3, edit_json, write_checkpoint
from tests.support.export import export_bundle
from tests.support.references import (
    check_greedy,
    check_logits,
    check_recipe,
    write_with_tokenizer,
)

SHAPES = {
    "windows shorter than the text": TinyGemma3(),
    "windows longer than the text": TinyGemma3(sliding_window=200),
    "a window of one token": TinyGemma3(sliding_window=1),
    "windows in all layers but the sixth": TinyGemma3(num_hidden_layers=7, pattern=6),
    "one key/value head": TinyGemma3(num_key_value_heads=1),
    "heads of 256": TinyGemma3(head_dim=256, query_pre_attn_scalar=256),
    "untied": TinyGemma3(tie_word_embeddings=False),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_logits_equal_those_of_transformers(tmp_path: Path, shape: TinyGemma3) -> None:
    check_logits(write_checkpoint(tmp_path / "checkpoint", shape), tmp_path / "graph")


def test_greedy_tokens_are_those_of_transformers(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", TinyGemma3())
    check_greedy(checkpoint, tmp_path / "graph", 6)


@pytest.mark.long
def test_greedy_tokens_of_many_prompts_are_those_of_transformers(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", TinyGemma3())
    check_greedy(checkpoint, tmp_path / "graph", 200)


def test_a_config_of_transformers_4_reads_the_same(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, TinyGemma3(rope_theta=5e5))
    new = Checkpoint.open(checkpoint).config

    def change(config: dict[str, object]) -> None:
        del config["rope_parameters"], config["layer_types"], config["tie_word_embeddings"]
        config |= {"rope_theta": 5e5, "rope_local_base_freq": 1e4, "rope_scaling": None}
        config["sliding_window_pattern"] = 3

    edit_json(checkpoint / "config.json", change)
    assert Checkpoint.open(checkpoint).config == new


def test_fields_that_are_left_out_are_those_of_transformers(tmp_path: Path) -> None:
    shape = TinyGemma3(
        num_hidden_layers=7, pattern=6, head_dim=256, query_pre_attn_scalar=256, sliding_window=4096
    )
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    before = Checkpoint.open(checkpoint).config
    left_out = (
        *("rope_parameters", "layer_types", "tie_word_embeddings", "head_dim"),
        *("query_pre_attn_scalar", "sliding_window", "rms_norm_eps"),
    )

    def change(config: dict[str, object]) -> None:
        for name in left_out:
            del config[name]

    edit_json(checkpoint / "config.json", change)
    assert Checkpoint.open(checkpoint).config == before
    check_logits(checkpoint, tmp_path / "graph")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = TinyGemma3(vocab_size=1152, hidden_size=256, dtype=torch.float32)
    return write_with_tokenizer(tmp_path_factory.mktemp("checkpoint"), shape)


@pytest.mark.parametrize("head", ["full", "choices"])
@pytest.mark.parametrize("quant", RECIPES)
def test_every_recipe_comes_near_it(
    quant: str, head: HeadKind, checkpoint: Path, tmp_path: Path
) -> None:
    check_recipe(checkpoint, tmp_path, quant, head)
    if head == "full":
        config = json.loads((tmp_path / "genai_config.json").read_text())
        assert config["model"]["type"] == "gemma3_text"


LINEAR = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
DEFAULT = {"rope_type": "default", "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"hidden_activation": "gelu"},
            'hidden_activation: only "gelu_pytorch_tanh" is supported, is "gelu"',
        ),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping: only null is supported, is 50"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping: only null is supported"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention: only false"),
        (
            {"rope_parameters": {"full_attention": LINEAR, "sliding_attention": DEFAULT}},
            'rope_parameters.full_attention.rope_type: only "default" is supported, is "linear"',
        ),
        (
            {"rope_parameters": {"full_attention": DEFAULT, "sliding_attention": LINEAR}},
            'rope_parameters.sliding_attention.rope_type: only "default" is supported',
        ),
        ({"sliding_window": 0}, "sliding_window: must be at least 1, is 0"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar: must be at least 1, is 0"),
        (
            {"layer_types": ["full_attention", "chunked_attention", "full_attention"]},
            'layer_types: only "sliding_attention or full_attention" is supported',
        ),
        (
            {"architectures": ["Gemma3ForConditionalGeneration"]},
            "is ['Gemma3ForConditionalGeneration']; --graph optimum",
        ),
    ],
)
def test_a_variant_that_is_not_built_is_refused(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    checkpoint = write_checkpoint(tmp_path, TinyGemma3())
    edit_json(checkpoint / "config.json", lambda config: config.update(change))
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(checkpoint)
    assert complaint in str(caught.value)


def test_a_bundle_with_a_tokenizer_of_gemmas_kind_answers(tmp_path: Path) -> None:
    """From the chat template that folds the system text in, to an answer."""
    shape = TinyGemma3(vocab_size=1024, max_position_embeddings=1024, dtype=torch.float32)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    CHAT_FORMATS["gemma-3"].tokenizer().save_pretrained(checkpoint)
    bundle = export_bundle(checkpoint, tmp_path / "bundle", "int8")
    with Foggen.open(bundle) as foggen:
        prefix = foggen.model.prefix_length
        result = foggen.ask(QUESTIONS[0], route="local_only")
    assert result.usage.cached_prompt_tokens == prefix > 50  # the system text is among them
    assert result.usage.prompt_tokens > prefix
    assert result.confidence in (0.0, 0.25, 0.5, 0.75, 1.0)
