"""What `config.json` of a Qwen3 checkpoint says, and the tensors that follow from it."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from foggen_runtime.errors import CheckpointError
from foggen_runtime.jsonio import FieldError, from_json

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
# Fields that older or newer configs leave out, and the only value that is built.
_ONLY_BUILT: Mapping[str, object] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "use_sliding_window": False,
    "quantization_config": None,
}


@dataclass(frozen=True)
class Qwen3Config:
    """The shape of a Qwen3 model; fields are named as in `config.json`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    eos_token_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: must be at least 1, is {getattr(self, name)}")
        for name in ("rms_norm_eps", "rope_theta"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be positive, is {getattr(self, name)}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim: must be even, is {self.head_dim}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads: must be a multiple of num_key_value_heads "
                f"({self.num_key_value_heads}), is {self.num_attention_heads}"
            )
        if not self.eos_token_ids or not all(0 <= i < self.vocab_size for i in self.eos_token_ids):
            raise ValueError(
                f"eos_token_id: must name at least one token below vocab_size "
                f"({self.vocab_size}), names {list(self.eos_token_ids)}"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Self:
        """Read a parsed `config.json`, as transformers 4 or 5 writes it.

        Args:
            config: The parsed file; `eos_token_id` is one id or a list of ids.

        Raises:
            CheckpointError: A field is missing, of the wrong type, or asks for something that is
                not built (another activation, biases, sliding windows, scaled rotary embeddings,
                quantized weights).
        """
        for name, built in _ONLY_BUILT.items():
            if config.get(name) not in (None, built):
                raise _unsupported(name, built, config[name])
        _check_layer_types(config.get("layer_types"))
        names = {field.name for field in dataclasses.fields(cls)}
        known = {name: value for name, value in config.items() if name in names}
        known |= _rope_theta(config)
        eos = config.get("eos_token_id")
        known["eos_token_ids"] = eos if isinstance(eos, list) else [] if eos is None else [eos]
        try:
            return from_json(cls, known, "config.json")
        except FieldError as error:
            raise CheckpointError(str(error)) from error


def expected_tensors(config: Qwen3Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor a checkpoint holds; `lm_head.weight` only where untied."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.q_norm": (config.head_dim,),
        "self_attn.k_norm": (config.head_dim,),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    return {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        **{
            f"model.layers.{i}.{name}.weight": shape
            for i in range(config.num_hidden_layers)
            for name, shape in layer.items()
        },
        "model.norm.weight": (hidden,),
        "lm_head.weight": (config.vocab_size, hidden),
    }


def _rope_theta(config: Mapping[str, object]) -> dict[str, object]:
    """Find `rope_theta` where transformers 4 or 5 puts it, and refuse every kind of scaling.

    As in transformers, `rope_scaling` goes before `rope_parameters`, and a `rope_theta` inside
    either goes before the one beside it.
    """
    name = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    parameters = config.get(name) or {}
    if not isinstance(parameters, Mapping):
        raise CheckpointError(f"config.json: {name}: must be an object, is {parameters!r}")
    rope_type = parameters.get("rope_type", parameters.get("type", "default"))
    if rope_type != "default":
        raise _unsupported(f"{name}.rope_type", "default", rope_type)
    for place, values in ((f"{name}.", parameters), ("", config)):
        factor = values.get("partial_rotary_factor")
        if factor not in (None, 1):
            raise _unsupported(f"{place}partial_rotary_factor", 1, factor)
    for values in (parameters, config):
        if values.get("rope_theta") is not None:
            return {"rope_theta": values["rope_theta"]}
    return {}


def _check_layer_types(layer_types: object) -> None:
    if layer_types is None:
        return
    kinds = layer_types if isinstance(layer_types, list) else [layer_types]
    for kind in kinds:
        if kind != "full_attention":
            raise _unsupported("layer_types", "full_attention", kind)


def _unsupported(field: str, built: object, value: object) -> CheckpointError:
    shown = json.dumps(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return CheckpointError(
        f"config.json: {field}: only {json.dumps(built)} is supported, is {shown}"
    )
