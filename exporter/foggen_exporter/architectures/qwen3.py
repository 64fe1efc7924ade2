"""Qwen3.

Follows `modeling_qwen3.py` of transformers: pre-norm decoder layers, RMS norm on each head's
queries and keys before the rotary embedding, grouped-query attention, SwiGLU, no biases.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from foggen_exporter.architectures.config import Sizes
from foggen_exporter.architectures.layer_graph import LayerGraph
from foggen_exporter.architectures.pre_norm import PreNormDecoder


@dataclass(frozen=True)
class Qwen3(PreNormDecoder):
    """The shape of a Qwen3 model; fields are named as in `config.json`."""

    model_type = genai_type = "qwen3"
    only_built: ClassVar[Mapping[str, object]] = {
        "hidden_act": "silu",
        "attention_bias": False,
        "use_sliding_window": False,
    }

    def layer_vectors(self) -> dict[str, Sizes]:
        """Return the shapes of a layer's norms: the usual ones, and those of queries and keys."""
        head = {"head_dim": self.head_dim}
        norms = {"self_attn.q_norm.weight": head, "self_attn.k_norm.weight": head}
        return super().layer_vectors() | norms

    def attention(self, m: LayerGraph, normed: str) -> str:
        """Let normed queries attend to normed keys; no scales of rows outlive the norms."""
        query, key, value = m.products(normed, "qkv_proj")
        query_heads = m.head_norm(query, self.num_attention_heads, "self_attn.q_norm")
        key_heads = m.head_norm(key, self.num_key_value_heads, "self_attn.k_norm")
        return m.attend(query_heads, key_heads, m.scaled(value, "value"))
