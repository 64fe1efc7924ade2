"""Small random models of each family, as transformers has them and as GGUF files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from foggen_runtime.arrays import Float32
from tests.conftest import TINY
from tests.support.checkpoints import TinyQwen3, random_model
from tests.support.gguf_writer import F32, GgufModel, byte_level_metadata
from tests.support.tokenizers import tiny_backend

_VOCABULARY, _END = 495, 471  # of the tiny tokenizer
_SHAPE: dict[str, Any] = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 96,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16384,
}
FAMILIES = ("llama", "qwen2", "qwen3", "gemma3")


@dataclass(frozen=True)
class Written:
    """A model of transformers, and what a GGUF file of it holds."""

    model: PreTrainedModel
    gguf: GgufModel

    @property
    def tensors(self) -> dict[str, Float32]:
        """The model's weights, a tied head left out."""
        return dict(self.gguf.tensors)


def tiny_foggen(kind: GGMLQuantizationType = F32) -> GgufModel:
    """Return what the converter makes of the tiny FogGen."""
    directory = TINY / "checkpoint"
    backend = Tokenizer.from_file(str(directory / "tokenizer.json"))
    config = json.loads((directory / "config.json").read_text())
    tokens = byte_level_metadata(backend, "qwen2") | {
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        "tokenizer.ggml.padding_token_id": config["pad_token_id"],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": (directory / "chat_template.jinja").read_text(),
    }
    metadata = _metadata("qwen3", PretrainedConfig(**config)) | tokens
    tensors = load_file(directory / "model.safetensors")
    weights = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    return GgufModel("qwen3", metadata, weights, kind)


def random_family(name: str, kind: GGMLQuantizationType = F32) -> Written:
    """Return a small random model of one of `FAMILIES`, its norm gains and biases random too."""
    model = {"llama": _llama, "qwen2": _qwen2, "qwen3": _qwen3, "gemma3": _gemma3}[name]()
    metadata = _metadata(name, model.config) | byte_level_metadata(tiny_backend(), "qwen2")
    metadata |= {"tokenizer.ggml.eos_token_id": _END}
    if name == "llama":
        metadata |= {"llama.rope.dimension_count": model.config.head_dim}
    if name == "gemma3":
        metadata |= {"gemma3.attention.sliding_window": model.config.sliding_window}
    weights = {
        key: tensor.detach().float().numpy()
        for key, tensor in model.state_dict().items()
        if key != "lm_head.weight" or not model.config.tie_word_embeddings
    }
    extra = {"rope_freqs.weight": _rope_factors(model.config)} if name == "llama" else {}
    return Written(model, GgufModel(name, metadata, weights, kind, extra))


def _llama() -> PreTrainedModel:
    parameters = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = LlamaConfig(**_SHAPE, head_dim=32, rms_norm_eps=1e-5, rope_parameters=parameters)
    return _randomized(LlamaForCausalLM(config))


def _qwen2() -> PreTrainedModel:
    parameters = {"rope_type": "default", "rope_theta": 1e6}
    return _randomized(
        Qwen2ForCausalLM(
            Qwen2Config(
                **_SHAPE,
                rms_norm_eps=1e-6,
                rope_parameters=parameters,
                tie_word_embeddings=True,
                eos_token_id=_END,
            )
        )
    )


def _qwen3() -> PreTrainedModel:
    shape = TinyQwen3(
        vocab_size=_VOCABULARY, head_dim=128, tie_word_embeddings=False, dtype=torch.float32
    )
    return random_model(shape)


def _gemma3() -> PreTrainedModel:
    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    parameters = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
    }
    shape = _SHAPE | {"num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 1}
    config = Gemma3TextConfig(
        **shape,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=4,
        layer_types=kinds,
        rope_parameters=parameters,
    )
    return _randomized(Gemma3ForCausalLM(config))


def _randomized(model: PreTrainedModel) -> PreTrainedModel:
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.3, generator=random)
    model.train(mode=False)
    return model


def _rope_factors(config: PretrainedConfig) -> Float32:
    """Return by what transformers divides the frequencies of Llama 3."""
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    steps = torch.arange(0, config.head_dim, 2).float() / config.head_dim
    plain = 1.0 / config.rope_parameters["rope_theta"] ** steps
    factors: Float32 = (plain / scaled).numpy()
    return factors


def _metadata(name: str, config: PretrainedConfig) -> dict[str, object]:
    rope = config.rope_parameters
    theta = rope.get("full_attention", rope)["rope_theta"]
    said = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": float(theta),
    }
    if (width := getattr(config, "head_dim", None)) is not None:
        said |= {"attention.key_length": width, "attention.value_length": width}
    return {f"{name}.{key}": value for key, value in said.items()}


def write_family(directory: Path, name: str, kind: GGMLQuantizationType = F32) -> Written:
    """Write `model.gguf`, and return what is in it."""
    written = random_family(name, kind)
    written.gguf.write(directory / "model.gguf")
    return written
