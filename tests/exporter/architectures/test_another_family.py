"""A family that is nowhere but here goes through every recipe, and computes what it should.

It has whatever Qwen3 has not: biases, gains that are stored less 1, four norms a layer, tanh-GELU,
a scaled embedding, windows with rotary tables of their own, scores scaled otherwise.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from foggen_exporter.architectures.config import Sizes
from foggen_exporter.architectures.decoder import Decoder
from foggen_exporter.architectures.layer_graph import Attention, LayerGraph, States
from foggen_exporter.architectures.registry import ARCHITECTURES
from foggen_exporter.calibration.budget import WeightSizes
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.graphs.builder import ALIGNMENT
from foggen_exporter.recipes.recipe import RECIPES, find_recipe
from foggen_exporter.request import HeadKind
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.arrays import Float32
from tests.conftest import TINY
from tests.support.random_bundle import export_graph, random_ids
from tests.support.references import export_everything, logits_error

Tensors = dict[str, Float32]


@dataclass(frozen=True)
class Toy(Decoder):
    """The shape of a toy."""

    sliding_window: int
    layer_types: tuple[str, ...]
    local_theta: float

    model_type = "llama"  # so that transformers finds a tokenizer
    genai_type = "toy"
    only_built: ClassVar[Mapping[str, object]] = {"hidden_act": "gelu_pytorch_tanh"}
    layer_types_built = ("full_attention", "sliding_attention")
    mlp_norm = "pre_feedforward_layernorm"

    @property
    def embedding_scale(self) -> float:
        return float(self.hidden_size**0.5)

    def as_computed(self, tensor: str, stored: Float32) -> Float32:
        return stored + np.float32(1) if tensor.endswith("norm.weight") else stored

    def rotary_frequencies(self) -> dict[str, Float32]:
        return {**super().rotary_frequencies(), "local": self.frequencies(self.local_theta)}

    def layer_vectors(self) -> dict[str, Sizes]:
        hidden = {"hidden_size": self.hidden_size}
        queries = {"queries": self.num_attention_heads * self.head_dim}
        keys = {"keys": self.num_key_value_heads * self.head_dim}
        return super().layer_vectors() | {
            "self_attn.q_proj.bias": queries,
            "self_attn.k_proj.bias": keys,
            "self_attn.v_proj.bias": keys,
            "post_attention_layernorm.weight": hidden,
            "post_feedforward_layernorm.weight": hidden,
        }

    def layer(self, m: LayerGraph, states: States) -> States:
        normed, residual = states
        attended, residual = m.tail(self._attention(m, normed), residual)
        output = m.norm(m.linear(attended, "o_proj"), "attended", "post_attention_layernorm")
        normed, residual = m.add_norm(output, residual, "middle", "pre_feedforward_layernorm")
        gate, up = m.products(normed, "gate_up_proj")
        active = m.op("Gelu", [m.scaled(gate, "gate")], "gelu", {"approximate": "tanh"})
        product = m.linear(m.times(active, up, "gated"), "down_proj")
        return m.next_norm(m.norm(product, "mlp", "post_feedforward_layernorm"), residual)

    def _attention(self, m: LayerGraph, normed: str) -> str:
        query, key, value = (
            m.op(
                "Add",
                [m.scaled(product, f"{part}"), m.vector(f"self_attn.{part}_proj.bias")],
                f"{part}.biased",
            )
            for part, product in zip("qkv", m.products(normed, "qkv_proj"), strict=True)
        )
        local = self.layer_types[m.index] == "sliding_attention"
        how = Attention(self.sliding_window, 0.2, "local") if local else Attention(scale=0.2)
        return m.attend(query, key, value, how)


LAYERS = ["sliding_attention", "full_attention"]
CONFIG = {
    "architectures": ["ToyForCausalLM"],
    "vocab_size": 1152,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": len(LAYERS),
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "eos_token_id": 1128,
    "hidden_act": "gelu_pytorch_tanh",
    "sliding_window": 16,
    "layer_types": LAYERS,
    "local_theta": 1e4,
}


def expected_logits(tensors: Tensors, ids: list[int]) -> Float32:
    """Compute the toy's logits by its definition: (tokens, vocab_size)."""
    positions = np.arange(len(ids))
    behind = positions[:, None] - positions
    x = tensors["model.embed_tokens.weight"][ids] * np.float32(16)

    def norm(x: Float32, name: str) -> Float32:
        rms = np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
        normed: Float32 = x / rms * (1 + tensors[f"model.{name}.weight"])
        return normed

    def turned(x: Float32, theta: float) -> Float32:
        angles = positions[:, None] / theta ** (np.arange(32) / 32)
        cosines, sines = np.cos(angles)[:, None], np.sin(angles)[:, None]
        one, other = x[..., :32], x[..., 32:]
        return np.concatenate([one * cosines - other * sines, other * cosines + one * sines], -1)

    for index, kind in enumerate(LAYERS):
        layer = f"layers.{index}"

        def linear(x: Float32, name: str, layer: str = layer) -> Float32:
            return x @ tensors[f"model.{layer}.{name}.weight"].T

        local = kind == "sliding_attention"
        h = norm(x, f"{layer}.input_layernorm")
        q, k, v = (
            linear(h, f"self_attn.{part}_proj")
            + tensors[f"model.{layer}.self_attn.{part}_proj.bias"]
            for part in "qkv"
        )
        q, k, v = (part.reshape(len(ids), -1, 64) for part in (q, k, v))
        theta = 1e4 if local else 1e6
        q, k, v = turned(q, theta), turned(k, theta).repeat(2, axis=1), v.repeat(2, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) * 0.2
        seen = (behind >= 0) & (behind < (16 if local else len(ids)))
        shares = np.exp(np.where(seen, scores, -np.inf))
        shares /= shares.sum(axis=-1, keepdims=True)
        o = linear(np.einsum("hqk,khd->qhd", shares, v).reshape(len(ids), -1), "self_attn.o_proj")
        x = x + norm(o, f"{layer}.post_attention_layernorm")
        h = norm(x, f"{layer}.pre_feedforward_layernorm")
        gate = linear(h, "mlp.gate_proj")
        active = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
        product = linear(active * linear(h, "mlp.up_proj"), "mlp.down_proj")
        x = x + norm(product, f"{layer}.post_feedforward_layernorm")
    logits: Float32 = norm(x, "norm") @ tensors["model.embed_tokens.weight"].T
    return logits


@pytest.fixture(autouse=True)
def toy_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "ToyForCausalLM", Toy)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a random toy, with the tiny FogGen's tokenizer."""
    directory = tmp_path_factory.mktemp("toy")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TINY / "checkpoint" / name, directory)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    random, tensors = np.random.default_rng(0), {}
    for name, sizes in Toy.from_config(CONFIG).expected_tensors().items():
        shape = tuple(sizes.values())
        deviation = shape[1] ** -0.5 if len(shape) == 2 else 0.3
        tensors[name] = (deviation * random.standard_normal(shape)).astype(np.float32)
    del tensors["lm_head.weight"]
    save_file(tensors, directory / "model.safetensors")
    return directory


@pytest.fixture(scope="module")
def tensors(directory: Path) -> Tensors:
    return load_file(directory / "model.safetensors")


def error(logits: Float32, expected: Float32) -> float:
    return float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))


def test_the_graph_computes_what_the_family_is_defined_by(
    directory: Path, tensors: Tensors, tmp_path: Path
) -> None:
    ids = random_ids(60, 1152)
    expected = expected_logits(tensors, ids)
    graph = export_graph(Checkpoint.open(directory), tmp_path, find_recipe("fp32"), tail=60)
    assert error(graph.engine().forward(ids), expected) < 1e-5
    engine = graph.engine()
    engine.forward(ids[:37])
    steps = np.concatenate([engine.forward(ids[37:50]), *(engine.forward([i]) for i in ids[50:])])
    assert error(steps, expected[37:]) < 1e-5


# Rounding's error on random weights; one that was made elsewhere would be about 1.
ERRORS = {
    "fp32": 1e-5,
    "int8": 0.05,
    "int8-weight": 0.05,
    "int4": 0.4,
    "int4-gptq": 0.45,
    "int4-mixed": 0.45,
}


@pytest.mark.parametrize("head", ["full", "choices"])
@pytest.mark.parametrize("quant", RECIPES)
def test_every_recipe_comes_near_it(
    quant: str, head: HeadKind, directory: Path, tensors: Tensors, tmp_path: Path
) -> None:
    model = export_everything(directory, tmp_path, quant, head)
    assert logits_error(model, partial(expected_logits, tensors)) < ERRORS[quant]


def test_sizes_are_those_of_the_file(directory: Path, tmp_path: Path) -> None:
    source, recipe = Checkpoint.open(directory), find_recipe("int4-mixed")
    sizes = WeightSizes.of(source, recipe, 512, 0)
    graph = export_graph(source, tmp_path, recipe)
    size = graph.path.with_name("model.onnx.data").stat().st_size
    inline = 6 * len(LAYERS)  # zero points of matrices, biases of keys and values
    assert -(-size // ALIGNMENT) == sizes.smallest - inline


def test_onnxruntime_genai_is_told_its_own_name_for_the_family(
    directory: Path, tmp_path: Path
) -> None:
    settings = ExportSettings(find_recipe("fp32"), load_template("mcq"), genai=True)
    for _ in Export.of(Checkpoint.open(directory), Origin("toy"), settings, tmp_path).steps():
        pass
    config = json.loads((tmp_path / "genai_config.json").read_text())
    assert config["model"]["type"] == "toy"
    assert onnx.load_model(tmp_path / "model_genai.onnx", load_external_data=False).graph.node
