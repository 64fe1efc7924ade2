"""The fp32 graph against transformers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from peft import LoraConfig, get_peft_model

from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_exporter.weights.lora import MergedCheckpoint
from tests.support.checkpoints import (
    TinyQwen3,
    add_equal_lm_head,
    shard,
    use_transformers_4_config,
    write_checkpoint,
)
from tests.support.random_bundle import GraphOnly, export_graph, random_ids
from tests.support.references import FP32, load_reference, reference_logits, relative
from tests.support.snapshots import prefix_snapshot

VARIANTS: dict[str, tuple[TinyQwen3, Callable[[Path], object]]] = {
    "bf16": (TinyQwen3(), lambda _: None),
    "fp16": (TinyQwen3(dtype=torch.float16), lambda _: None),
    "fp32": (TinyQwen3(dtype=torch.float32), lambda _: None),
    "untied": (TinyQwen3(tie_word_embeddings=False), lambda _: None),
    "untied but equal": (TinyQwen3(), add_equal_lm_head),
    "sharded": (TinyQwen3(), shard),
    "transformers 4 config": (TinyQwen3(rope_theta=5e5), use_transformers_4_config),
    # As 1.7B and 4B are: heads as wide as hidden; 1.6 times as wide, four to a key.
    "1.7B": (TinyQwen3(hidden_size=256), lambda _: None),
    "4B": (TinyQwen3(hidden_size=160, num_attention_heads=8, head_dim=32), lambda _: None),
    "odd vocabulary": (TinyQwen3(vocab_size=307), lambda _: None),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_those_of_transformers(tmp_path: Path, variant: str) -> None:
    shape, change = VARIANTS[variant]
    directory = write_checkpoint(tmp_path / "checkpoint", shape)
    change(directory)
    ids = random_ids(90, shape.vocab_size)
    expected = reference_logits(load_reference(directory), ids)
    exported = export_graph(Checkpoint.open(directory), tmp_path / "out", FP32, tail=90)
    logits = exported.engine().forward(ids)
    assert relative(logits, expected) < 1e-4
    assert np.array_equal(logits.argmax(-1), expected.argmax(-1))


def test_integer_products_with_their_scales_are_near_transformers(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "checkpoint")
    ids = random_ids(40, 300)
    expected = reference_logits(load_reference(directory), ids)
    int8 = find_recipe("int8")
    exported = export_graph(Checkpoint.open(directory), tmp_path / "out", int8, tail=40)
    logits = exported.engine().forward(ids)
    assert np.linalg.norm(logits - expected) < 0.3 * np.linalg.norm(expected)


# peft asks transformers for an attribute by its former name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_logits_equal_those_of_peft_with_the_adapter_merged(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "base")
    config = LoraConfig(
        r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"]
    )
    adapted = get_peft_model(load_reference(directory), config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    adapted.save_pretrained(str(tmp_path / "adapter"))
    source = MergedCheckpoint.open(Checkpoint.open(directory), tmp_path / "adapter")
    ids = random_ids(40, 300)
    expected = reference_logits(adapted.merge_and_unload(), ids)
    unmerged = reference_logits(load_reference(directory), ids)
    logits = export_graph(source, tmp_path / "out", FP32, tail=40).engine().forward(ids)
    assert relative(logits, expected) < 1e-4
    assert relative(unmerged, expected) > 1e-2


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TensorSource:
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(scope="module")
def exported(source: TensorSource, tmp_path_factory: pytest.TempPathFactory) -> GraphOnly:
    return export_graph(source, tmp_path_factory.mktemp("graph"), FP32)


def test_cached_decoding_equals_one_shot(exported: GraphOnly) -> None:
    ids = random_ids(60, 300)
    one_shot = exported.engine().forward(ids)
    engine = exported.engine()
    engine.forward(ids[:53])
    steps = np.concatenate([engine.forward([token]) for token in ids[53:]])
    assert relative(steps, one_shot) < 1e-5


def test_only_the_tail_has_logits(exported: GraphOnly) -> None:
    engine = exported.engine()
    assert engine.forward(random_ids(20, 300)).shape == (7, 300)
    assert engine.forward(random_ids(3, 300)).shape == (3, 300)


def test_the_snapshot_is_the_cache_that_the_graph_computes(
    source: TensorSource, exported: GraphOnly
) -> None:
    ids = random_ids(30, 300)
    engine = exported.engine()
    engine.forward(ids)
    held = engine.cache.snapshot()
    snapshot = prefix_snapshot(source, ids)
    assert snapshot.shape == held.shape
    for layer in range(len(held)):
        assert relative(snapshot[layer], held[layer]) < 1e-5


def test_a_tied_head_is_stored_once(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "checkpoint")
    add_equal_lm_head(directory)
    for quant, head in (("fp32", "embed_tokens.weight"), ("int4", "logits.weight")):
        exported = export_graph(Checkpoint.open(directory), tmp_path / quant, find_recipe(quant))
        graph = onnx.load_model(exported.path, load_external_data=False).graph
        external = {tensor.name: tensor.external_data for tensor in graph.initializer}
        ranges = [
            {entry.key: entry.value for entry in external[name]}
            for name in (head, "embed_tokens.weight")
        ]
        assert ranges[0] == ranges[1] != {}


def test_names_are_those_of_hugging_face(exported: GraphOnly) -> None:
    graph = onnx.load_model(exported.path, load_external_data=False).graph
    caches = [f"{i}.{part}" for i in range(2) for part in ("key", "value")]
    inputs = ["input_ids", "attention_mask", *(f"past_key_values.{name}" for name in caches)]
    assert [value.name for value in graph.input] == inputs
    outputs = ["logits", *(f"present.{name}" for name in caches)]
    assert [value.name for value in graph.output] == outputs
