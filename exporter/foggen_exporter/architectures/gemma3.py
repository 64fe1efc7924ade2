"""Gemma 3, its text models.

Follows `modeling_gemma3.py` of transformers: norms before and after attention and MLP, RMS norm on
each head's queries and keys, gains that are stored less 1, tanh-GELU, an embedding that is scaled
where it is read and not where it is the output head, and layers that see a window of tokens only,
with a rotary embedding of their own, between some that see all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from foggen_exporter.architectures.config import (
    Sizes,
    rope_parameters,
    rope_type,
    unsupported,
)
from foggen_exporter.architectures.decoder import Decoder
from foggen_exporter.architectures.layer_graph import Attention, LayerGraph, Product, States
from foggen_runtime.arrays import Float32

_WINDOW, _ALL = "sliding_attention", "full_attention"
_LOCAL = "local"  # the rotary tables of layers with a window


@dataclass(frozen=True)
class Gemma3(Decoder):
    """The shape of a Gemma 3 text model; fields are named as in `config.json`."""

    sliding_window: int
    layer_types: tuple[str, ...]
    rope_local_base_freq: float
    query_pre_attn_scalar: float

    model_type = genai_type = "gemma3_text"
    only_built: ClassVar[Mapping[str, object]] = {
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": False,
        "use_bidirectional_attention": False,
    }
    layer_types_built = (_WINDOW, _ALL)
    mlp_norm = "pre_feedforward_layernorm"

    def __post_init__(self) -> None:
        super().__post_init__()
        smallest = {"sliding_window": 1, "rope_local_base_freq": 1, "query_pre_attn_scalar": 1}
        for name, least in smallest.items():
            if not least <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}: must be at least {least}, is {getattr(self, name)}")

    @classmethod
    def renamed_fields(cls, document: Mapping[str, object]) -> dict[str, object]:
        """Return the fields that are in several places: those of windows' rotary embedding too."""
        return super().renamed_fields(document) | _local_theta(document)

    @classmethod
    def defaults(cls, document: Mapping[str, object]) -> dict[str, object]:
        """Return what transformers takes for fields that `config.json` leaves out, or has null."""
        layers, pattern = document.get("num_hidden_layers"), document.get("sliding_window_pattern")
        if pattern is None:
            pattern = document.get("_sliding_window_pattern", 6)
        defaults: dict[str, object] = {
            "head_dim": 256,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "query_pre_attn_scalar": 256,
            "sliding_window": 4096,
            "tie_word_embeddings": True,
        }
        if isinstance(layers, int) and isinstance(pattern, int) and pattern > 0:
            kinds = [_WINDOW if (index + 1) % pattern else _ALL for index in range(layers)]
            defaults["layer_types"] = kinds
        return defaults

    @property
    def embedding_scale(self) -> float:
        """The root of `hidden_size`, in float32, as transformers takes it for float32 weights."""
        return float(self.hidden_size**0.5)

    def as_computed(self, tensor: str, stored: Float32) -> Float32:
        """Return what a tensor's values are in the graph: gains are stored less 1."""
        return stored + np.float32(1) if tensor.endswith("norm.weight") else stored

    def rotary_frequencies(self) -> dict[str, Float32]:
        """Return radians per position for each pair of rotated values, by the tables' name."""
        local = self.frequencies(self.rope_local_base_freq)
        return {**super().rotary_frequencies(), _LOCAL: local}

    def layer_vectors(self) -> dict[str, Sizes]:
        """Return the shapes of a layer's norms: four of hidden states, two of heads."""
        hidden, head = {"hidden_size": self.hidden_size}, {"head_dim": self.head_dim}
        return super().layer_vectors() | {
            "post_attention_layernorm.weight": hidden,
            "post_feedforward_layernorm.weight": hidden,
            "self_attn.q_norm.weight": head,
            "self_attn.k_norm.weight": head,
        }

    def layer(self, m: LayerGraph, states: States) -> States:
        """Emit one layer, and the norm that follows it."""
        normed, residual = states
        attended, residual = m.tail(self._attention(m, normed), residual)
        output = m.norm(m.linear(attended, "o_proj"), "attended", "post_attention_layernorm")
        normed, residual = m.add_norm(output, residual, "middle", self.mlp_norm)
        gate, up = m.products(normed, "gate_up_proj")
        product = m.linear(m.times(self._gelu(m, gate), up, "gated"), "down_proj")
        return m.next_norm(m.norm(product, "mlp", "post_feedforward_layernorm"), residual)

    def _attention(self, m: LayerGraph, normed: str) -> str:
        """Let normed queries attend to normed keys; no scales of rows outlive the norms."""
        query, key, value = m.products(normed, "qkv_proj")
        query_heads = m.head_norm(query, self.num_attention_heads, "self_attn.q_norm")
        key_heads = m.head_norm(key, self.num_key_value_heads, "self_attn.k_norm")
        scale = self.query_pre_attn_scalar**-0.5
        local = self.layer_types[m.index] == _WINDOW
        how = Attention(self.sliding_window, scale, _LOCAL) if local else Attention(scale=scale)
        return m.attend(query_heads, key_heads, m.scaled(value, "value"), how)

    def _gelu(self, m: LayerGraph, gate: Product) -> str:
        return m.op("Gelu", [m.scaled(gate, "gate")], "gelu", {"approximate": "tanh"})


def _local_theta(document: Mapping[str, object]) -> dict[str, object]:
    """Find the rotary base of layers with a window where transformers 5 puts it, if it is there.

    Before, it was a field of its own, and `rope_parameters` were those of the other layers.

    Raises:
        CheckpointError: Their rotary embedding is scaled.
    """
    name, parameters = rope_parameters(document, _WINDOW)
    if not name.endswith(_WINDOW):
        return {}
    if (kind := rope_type(parameters)) != "default":
        raise unsupported(f"{name}.rope_type", "default", kind)
    theta = parameters.get("rope_theta")
    return {} if theta is None else {"rope_local_base_freq": theta}
