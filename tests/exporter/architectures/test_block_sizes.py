"""Sizes that blocks of 128 do not divide: every recipe gets smaller ones, and says so."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from foggen_exporter.recipes.recipe import RECIPES, find_recipe
from foggen_exporter.request import HeadKind
from foggen_exporter.weights.checkpoint import Checkpoint
from tests.support.checkpoints import TinyLlama, write_checkpoint
from tests.support.random_bundle import export_graph, random_ids
from tests.support.references import (
    check_recipe,
    load_reference,
    reference_logits,
    write_with_tokenizer,
)

# 64 divides hidden, an odd number of times; 32 the heads' values; 128 the MLP's.
SHAPE = TinyLlama(
    vocab_size=1152,
    hidden_size=192,
    num_attention_heads=3,
    num_key_value_heads=1,
    head_dim=32,
    intermediate_size=256,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_with_tokenizer(tmp_path_factory.mktemp("checkpoint"), SHAPE)


@pytest.mark.parametrize("head", ["full", "choices"])
@pytest.mark.parametrize("quant", [name for name in RECIPES if name != "fp32"])
def test_every_recipe_comes_near_fp32_and_says_its_blocks(
    quant: str, head: HeadKind, checkpoint: Path, tmp_path: Path
) -> None:
    model = check_recipe(checkpoint, tmp_path, quant, head)
    groups = model.bundle.manifest.quantization.groups
    assert groups["embedding"].block_size == 64
    graph = onnx.load_model(tmp_path / "model.onnx", load_external_data=False).graph
    for node in graph.node:
        sizes = [one.i for one in node.attribute if one.name == "block_size"]
        if node.op_type == "MatMulNBits":
            name = node.output[0] if node.output[0] in groups else "layers"
            if node.output[0].startswith("logits"):
                name = "embedding"
            assert sizes == [groups[name].block_size], node.output[0]
        elif node.op_type == "GatherBlockQuantized":
            assert sizes == [64]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("hidden_size", [96, 192, 320, 576])
def test_odd_numbers_of_blocks(
    hidden_size: int, tied: bool, symmetric: bool, tmp_path: Path
) -> None:
    shape = TinyLlama(hidden_size=hidden_size, tie_word_embeddings=tied, num_hidden_layers=1)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", shape)
    recipe = find_recipe("int4").with_blocks(None, symmetric=symmetric)
    exported = export_graph(Checkpoint.open(checkpoint), tmp_path / "graph", recipe, tail=40)
    ids = random_ids(40, 300)
    expected = reference_logits(load_reference(checkpoint), ids)
    logits = exported.engine().forward(ids)
    assert np.linalg.norm(logits - expected) < 0.3 * np.linalg.norm(expected)
