"""Small random checkpoints, written by transformers, and ways to vary them on disk."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)
from transformers.utils.logging import disable_progress_bar

EMBEDDING = "model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"


@dataclass(frozen=True)
class TinyShape:
    """The shape of a small model; query heads are together wider than hidden, as in Qwen3."""

    vocab_size: int = 300
    hidden_size: int = 128
    intermediate_size: int = 256
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    max_position_embeddings: int = 512
    rope_theta: float = 1e6
    tie_word_embeddings: bool = True
    dtype: torch.dtype = torch.bfloat16
    seed: int = 0

    def config(self) -> PreTrainedConfig:
        """Return the configuration of a family, with what all have in common."""
        raise NotImplementedError

    def fields(self) -> dict[str, Any]:
        """Return the fields of `config.json` that all families have."""
        return {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.max_position_embeddings,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "tie_word_embeddings": self.tie_word_embeddings,
            "eos_token_id": self.vocab_size - 1,
            "bos_token_id": None,
            "dtype": self.dtype,
        }


@dataclass(frozen=True)
class TinyQwen3(TinyShape):
    """A small Qwen3."""

    def config(self) -> PreTrainedConfig:
        return Qwen3Config(**self.fields())


@dataclass(frozen=True)
class TinyQwen2(TinyShape):
    """A small Qwen2, with biases."""

    def config(self) -> PreTrainedConfig:
        return Qwen2Config(**self.fields())


@dataclass(frozen=True)
class TinyLlama(TinyShape):
    """A small Llama.

    Attributes:
        original_length: Past how many positions llama3's scaling of the rotary embedding goes;
            None for no scaling.
    """

    original_length: int | None = None

    def config(self) -> PreTrainedConfig:
        config = LlamaConfig(**self.fields())
        if self.original_length is not None:
            config.rope_parameters = {
                "rope_type": "llama3",
                "rope_theta": self.rope_theta,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": self.original_length,
            }
        return config


@dataclass(frozen=True)
class TinyGemma3(TinyShape):
    """A small Gemma 3: of three layers the first two see a window only."""

    num_hidden_layers: int = 3
    sliding_window: int = 16
    pattern: int = 3
    query_pre_attn_scalar: int = 100

    def config(self) -> PreTrainedConfig:
        return Gemma3TextConfig(
            **{
                **self.fields(),
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": self.rope_theta},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                },
            },
            sliding_window=self.sliding_window,
            layer_types=[
                "sliding_attention" if (i + 1) % self.pattern else "full_attention"
                for i in range(self.num_hidden_layers)
            ],
            query_pre_attn_scalar=self.query_pre_attn_scalar,
        )


def random_model(shape: TinyShape) -> PreTrainedModel:
    """Return a model with random weights, norm gains and biases too, that ends at the last id.

    Weights are large enough for positions and tokens to matter to the logits.
    """
    random = torch.Generator().manual_seed(shape.seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        shape.config()
    )
    torch.nn.Module.to(model, dtype=shape.dtype)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0.0, 0.5, generator=random)
            elif weight.ndim == 1:
                # Gemma's gains are stored less 1.
                stored = 0.0 if isinstance(shape, TinyGemma3) else 1.0
                weight.normal_(stored, 0.2, generator=random)
            else:
                deviation = 0.3 if name == EMBEDDING else weight.shape[1] ** -0.5
                weight.normal_(0.0, deviation, generator=random)
    model.generation_config.eos_token_id = [shape.vocab_size - 1, shape.vocab_size - 3]
    return model


def write_checkpoint(directory: Path, shape: TinyShape | None = None) -> Path:
    """Write a random checkpoint as transformers 5 does, without a tokenizer; return `directory`.

    `generation_config.json` names two ends: the last token id, and the third last.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]
    random_model(shape or TinyQwen3()).save_pretrained(directory)
    return directory


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite a JSON file after `change` has changed the parsed object in place."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=2))


def edit_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Rewrite `model.safetensors` after `change` has changed the tensors by name in place."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def use_transformers_4_config(directory: Path) -> None:
    """Rewrite `config.json` in the style of transformers 4, as Qwen3's own checkpoints have it."""

    def change(config: dict[str, Any]) -> None:
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
        config["rope_scaling"] = None
        config["torch_dtype"] = config.pop("dtype")
        config["transformers_version"] = "4.51.0"
        del config["layer_types"]

    edit_json(directory / "config.json", change)


def add_equal_lm_head(directory: Path) -> None:
    """Store the embedding a second time, as `lm_head.weight`."""
    edit_tensors(directory, lambda tensors: tensors.update({LM_HEAD: tensors[EMBEDDING].clone()}))


def add_other_lm_head(directory: Path) -> None:
    """Store an `lm_head.weight` that differs from the embedding in its last row only."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[LM_HEAD] = tensors[EMBEDDING].clone()
        tensors[LM_HEAD][-1] += 1

    edit_tensors(directory, change)


def shard(directory: Path, count: int = 2) -> None:
    """Spread `model.safetensors` over `count` shards with an index."""
    single = directory / "model.safetensors"
    tensors = load_file(single)
    single.unlink()
    weight_map: dict[str, str] = {}
    for i in range(count):
        name = f"model-{i + 1:05}-of-{count:05}.safetensors"
        part = dict(list(tensors.items())[i::count])
        save_file(part, directory / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
