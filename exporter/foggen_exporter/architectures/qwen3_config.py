"""What `config.json` of a Qwen3 checkpoint says, and the tensors that follow from it."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

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
# onnxruntime's GroupQueryAttention refuses others when it runs.
_HEAD_DIM_MULTIPLE = 16
_FLOAT32 = np.finfo(np.float32)
_ATTENTION = "full_attention"
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
        # Beyond these, values overflow or vanish in float32.
        for name, smallest in (("rms_norm_eps", float(_FLOAT32.tiny)), ("rope_theta", 1.0)):
            value = getattr(self, name)
            if not smallest <= value <= float(_FLOAT32.max):
                raise ValueError(
                    f"{name}: must be positive, at least {smallest:.3g} and at most "
                    f"{_FLOAT32.max:.3g}, is {value}"
                )
        if self.head_dim % _HEAD_DIM_MULTIPLE:
            raise ValueError(
                f"head_dim: must be a multiple of {_HEAD_DIM_MULTIPLE} for onnxruntime's "
                f"attention with rotary embeddings, is {self.head_dim}"
            )
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
        names = {field.name for field in dataclasses.fields(cls)}
        known = {name: value for name, value in config.items() if name in names}
        known |= _rope_theta(config)
        known["eos_token_ids"] = list(eos_token_ids(config))
        try:
            read = from_json(cls, known, "config.json")
        except FieldError as error:
            raise CheckpointError(str(error)) from error
        _check_layer_types(config.get("layer_types"), read.num_hidden_layers)
        return read


def eos_token_ids(config: Mapping[str, object]) -> tuple[int, ...]:
    """Return the ids of the tokens that end a text; none where `eos_token_id` is null.

    Raises:
        CheckpointError: It is neither an id nor a list of ids.
    """
    eos = config.get("eos_token_id")
    ends = eos if isinstance(eos, list) else [] if eos is None else [eos]
    if any(type(end) is not int for end in ends):
        raise CheckpointError(
            f"config.json or generation_config.json: eos_token_id: must be a token id or a list of "
            f"them, is {_shown(eos)}"
        )
    return tuple(ends)


def expected_tensors(config: Qwen3Config) -> dict[str, dict[str, int]]:
    """Name and shape of every tensor a checkpoint holds; `lm_head.weight` only where untied.

    A shape is given by what `config.json` calls each size.
    """
    hidden = {"hidden_size": config.hidden_size}
    inner = {"intermediate_size": config.intermediate_size}
    head = {"head_dim": config.head_dim}
    queries, keys = (
        {f"{name} * head_dim": getattr(config, name) * config.head_dim}
        for name in ("num_attention_heads", "num_key_value_heads")
    )
    layer = {
        "input_layernorm": hidden,
        "self_attn.q_proj": queries | hidden,
        "self_attn.k_proj": keys | hidden,
        "self_attn.v_proj": keys | hidden,
        "self_attn.o_proj": hidden | queries,
        "self_attn.q_norm": head,
        "self_attn.k_norm": head,
        "post_attention_layernorm": hidden,
        "mlp.gate_proj": inner | hidden,
        "mlp.up_proj": inner | hidden,
        "mlp.down_proj": hidden | inner,
    }
    vocabulary = {"vocab_size": config.vocab_size} | hidden
    return {
        "model.embed_tokens.weight": vocabulary,
        **{
            f"model.layers.{i}.{name}.weight": shape
            for i in range(config.num_hidden_layers)
            for name, shape in layer.items()
        },
        "model.norm.weight": hidden,
        "lm_head.weight": vocabulary,
    }


def _rope_theta(config: Mapping[str, object]) -> dict[str, object]:
    """Find `rope_theta` where transformers 4 or 5 puts it, and refuse every kind of scaling.

    As in transformers, `rope_scaling` goes before `rope_parameters`, and a `rope_theta` inside
    either goes before the one beside it. Where parameters are given by the kind of layer, those of
    the kind that is built count.
    """
    name = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    parameters = _object(name, config.get(name) or {})
    if any(isinstance(value, Mapping) for value in parameters.values()):
        if _ATTENTION not in parameters:
            raise CheckpointError(
                f"config.json: {name}: must have parameters for {_ATTENTION}, has them for "
                f"{', '.join(map(str, parameters))}"
            )
        name, parameters = f"{name}.{_ATTENTION}", _object(name, parameters[_ATTENTION])
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


def _object(name: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise CheckpointError(f"config.json: {name}: must be an object, is {_shown(value)}")
    return value


def _check_layer_types(layer_types: object, count: int) -> None:
    if layer_types is None:
        return
    if not isinstance(layer_types, list) or len(layer_types) != count:
        raise CheckpointError(
            f"config.json: layer_types: must be a list with one for each of num_hidden_layers "
            f"({count}), "
            + (
                f"has {len(layer_types)}"
                if isinstance(layer_types, list)
                else f"is {_shown(layer_types)}"
            )
        )
    for kind in layer_types:
        if kind != _ATTENTION:
            raise _unsupported("layer_types", _ATTENTION, kind)


def _unsupported(field: str, built: object, value: object) -> CheckpointError:
    return CheckpointError(
        f"config.json: {field}: only {json.dumps(built)} is supported, is {_shown(value)}"
    )


def _shown(value: object) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
