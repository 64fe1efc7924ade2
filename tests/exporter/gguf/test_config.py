"""What is read of a model's shape, held against the configuration that transformers had."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from foggen_exporter.gguf.config import Document, read_model
from foggen_exporter.gguf.header import GgufHeader
from foggen_runtime.errors import CheckpointError
from tests.support.gguf_models import FAMILIES, random_family, tiny_foggen, write_family
from tests.support.gguf_writer import GgufModel

# Said by whoever saves a model, not by its shape.
_OTHERS = ("eos_token_id", "dtype", "head_dim")


def document_of(model: GgufModel, directory: Path) -> Document:
    return read_model(GgufHeader.read(model.write(directory / "model.gguf")))[0]


def configured(document: Document) -> Any:
    """Return the configuration that transformers makes of a document."""
    others = {name: value for name, value in document.items() if name != "model_type"}
    return AutoConfig.for_model(str(document["model_type"]), **others)


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_makes_the_same_configuration_of_it(tmp_path: Path, family: str) -> None:
    written = write_family(tmp_path, family)
    document, _ = read_model(GgufHeader.read(tmp_path / "model.gguf"))
    ours, theirs = configured(document).to_dict(), written.model.config.to_dict()
    differing = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
    assert differing - set(_OTHERS) <= {"architectures"}
    assert document["architectures"] == [type(written.model).__name__]
    heads = written.model.config
    assert document["head_dim"] == getattr(heads, "head_dim", None) or heads.hidden_size // 6


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_made_of_it_computes_the_same(tmp_path: Path, family: str) -> None:
    written = write_family(tmp_path, family)
    document, files = read_model(GgufHeader.read(tmp_path / "model.gguf"))
    config = configured(document)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    read = {name: torch.from_numpy(files.tensor(name)) for name in files.entries}
    missing = model.load_state_dict(read, strict=False).missing_keys
    assert missing in ([], ["lm_head.weight"])
    ids = torch.arange(3, 40)[None]  # longer than Gemma's window
    with torch.no_grad():
        ours, theirs = model(ids).logits, written.model(ids).logits
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_figures_are_the_decimals_they_were(tmp_path: Path) -> None:
    document = document_of(random_family("llama").gguf, tmp_path)
    assert (document["rms_norm_eps"], document["rope_theta"]) == (1e-5, 500_000.0)


def test_ends_are_those_named_and_those_llama_cpp_knows(tmp_path: Path) -> None:
    model = tiny_foggen()
    assert document_of(model, tmp_path)["eos_token_id"] == [1128, 1126]
    named = model.but(tokenizer__ggml__eos_token_id=5, tokenizer__ggml__eot_token_id=6)
    assert document_of(named, tmp_path)["eos_token_id"] == [5, 6, 1126, 1128]


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama_3s_scaling_is_recognized_by_its_factors(tmp_path: Path, factor: float) -> None:
    model = random_family("llama").gguf
    factors = model.extra["rope_freqs.weight"]
    stretched = np.where(factors == 8, np.float32(factor), factors)
    # Between the two kinds of frequencies, the formula of transformers' `rope_type: llama3`.
    turns = 8192 / (2 * np.pi * 500_000.0 ** (np.arange(0, 32, 2) / 32))
    between = (factors != 8) & (factors != 1)
    smooth = (turns - 1) / 3
    stretched[between] = (1 / ((1 - smooth) / factor + smooth))[between]
    changed = GgufModel(
        "llama", model.metadata, model.tensors, extra={"rope_freqs.weight": stretched}
    )
    assert between.any()
    assert document_of(changed, tmp_path)["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def test_other_scalings_of_frequencies_are_refused(tmp_path: Path) -> None:
    model = random_family("llama").gguf
    for factors in (np.linspace(1, 8, 16), np.ones(8), np.zeros(16)):
        extra = {"rope_freqs.weight": factors.astype(np.float32)}
        changed = GgufModel("llama", model.metadata, model.tensors, extra=extra)
        with pytest.raises(CheckpointError, match=r"rope_freqs.weight: must be what Llama 3's"):
            document_of(changed, tmp_path)


def test_other_scalings_are_handed_on_for_the_family_to_judge(tmp_path: Path) -> None:
    model = random_family("qwen2").gguf.but(
        qwen2__rope__scaling__type="yarn",
        qwen2__rope__scaling__factor=4.0,
        qwen2__rope__dimension_count=8,
    )
    document = document_of(model, tmp_path)
    assert document["rope_scaling"] == {"rope_type": "yarn", "factor": 4.0}
    assert document["partial_rotary_factor"] == 0.5


def test_biases_are_known_by_their_tensors(tmp_path: Path) -> None:
    model = random_family("llama").gguf
    assert document_of(model, tmp_path)["attention_bias"] is False
    bias = {"model.layers.0.self_attn.q_proj.bias": np.zeros(192, np.float32)}
    changed = GgufModel("llama", model.metadata, {**model.tensors, **bias}, extra=model.extra)
    assert document_of(changed, tmp_path)["attention_bias"] is True


def test_gemmas_windows_go_by_the_file_where_it_says(tmp_path: Path) -> None:
    model = random_family("gemma3").gguf.but(
        gemma3__attention__sliding_window_pattern=2,
        gemma3__rope__freq_base_swa=20_000.0,
        gemma3__final_logit_softcapping=30.0,
    )
    document = document_of(model, tmp_path)
    assert document["layer_types"] == ["sliding_attention", "full_attention"] * 3
    assert document["rope_local_base_freq"] == 20_000.0
    assert document["final_logit_softcapping"] == 30.0


@pytest.mark.parametrize(("key", "value", "message"), [
    ("general.architecture", "mamba", "must be one of llama, qwen2, qwen3, gemma3, is 'mamba'"),
    ("general.architecture", "qwen3moe", "must be one of llama, qwen2, qwen3, gemma3, is 'qwen3m"),
    ("qwen3.expert_count", 8, "must be 0, for mixtures of experts are not supported, is 8"),
    ("qwen3.block_count", None, "must be there, is missing"),
    ("qwen3.embedding_length", "wide", "must be a whole number, is 'wide'"),
    ("qwen3.attention.head_count", [4, 4], "must be a whole number, is [4, 4]"),
    ("qwen3.attention.layer_norm_rms_epsilon", None, "must be there, is missing"),
    ("tokenizer.ggml.tokens", None, "must be there, is missing"),
    ("tokenizer.ggml.token_type", None, "must be there, is missing"),
])  # fmt: skip
def test_what_is_missing_or_unsupported_is_named(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    changed = random_family("qwen3").gguf.but(**{key.replace(".", "__"): value})
    with pytest.raises(CheckpointError) as raised:
        document_of(changed, tmp_path)
    assert f"model.gguf: {key}: {message}" in str(raised.value)


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    model = random_family("qwen3").gguf
    without = GgufModel("qwen3", model.metadata, {"model.norm.weight": np.ones(4, np.float32)})
    with pytest.raises(CheckpointError, match=r"token_embd.weight: must be there, is missing"):
        document_of(without, tmp_path)
