"""Qwen3.

Follows `modeling_qwen3.py` of transformers: pre-norm decoder layers, RMS norm on each head's
queries and keys before the rotary embedding, grouped-query attention, SwiGLU, no biases.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from foggen_exporter.architectures.channels import Channels
from foggen_exporter.architectures.config import Sizes
from foggen_exporter.architectures.decoder import Decoder
from foggen_exporter.architectures.layer_graph import LayerGraph, States


@dataclass(frozen=True)
class Qwen3(Decoder):
    """The shape of a Qwen3 model; fields are named as in `config.json`."""

    model_type = genai_type = "qwen3"
    only_built: ClassVar[Mapping[str, object]] = {
        "hidden_act": "silu",
        "attention_bias": False,
        "use_sliding_window": False,
    }
    matrices: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "o_proj": ("self_attn.o_proj",),
        "gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
        "down_proj": ("mlp.down_proj",),
    }

    def layer_tensors(self) -> dict[str, Sizes]:
        """Return the shapes of a layer's tensors by their names."""
        hidden = {"hidden_size": self.hidden_size}
        inner = {"intermediate_size": self.intermediate_size}
        head = {"head_dim": self.head_dim}
        queries = {"num_attention_heads * head_dim": self.num_attention_heads * self.head_dim}
        keys = {"num_key_value_heads * head_dim": self.num_key_value_heads * self.head_dim}
        return {
            "input_layernorm.weight": hidden,
            "self_attn.q_proj.weight": queries | hidden,
            "self_attn.k_proj.weight": keys | hidden,
            "self_attn.v_proj.weight": keys | hidden,
            "self_attn.o_proj.weight": hidden | queries,
            "self_attn.q_norm.weight": head,
            "self_attn.k_norm.weight": head,
            "post_attention_layernorm.weight": hidden,
            "mlp.gate_proj.weight": inner | hidden,
            "mlp.up_proj.weight": inner | hidden,
            "mlp.down_proj.weight": hidden | inner,
        }

    def layer_channels(self, index: int) -> tuple[Channels, ...]:
        """Return the channels from norms to products, from values to o, and from up to down.

        A folded value projection also scales the values in the KV cache.
        """
        heads = (self.num_key_value_heads, self.num_attention_heads // self.num_key_value_heads)
        layer, product = f"model.layers.{index}", f"layers.{index}"
        q, k, v, o = (f"{layer}.self_attn.{part}_proj.weight" for part in "qkvo")
        gate, up, down = (f"{layer}.mlp.{part}_proj.weight" for part in ("gate", "up", "down"))
        before = f"{layer}.input_layernorm.weight"
        middle = f"{layer}.post_attention_layernorm.weight"
        return (
            Channels(f"{product}.qkv_proj", (before,), (q, k, v)),
            Channels(f"{product}.o_proj", (v,), (o,), heads),
            Channels(f"{product}.gate_up_proj", (middle,), (gate, up)),
            Channels(f"{product}.down_proj", (up,), (down,)),
        )

    def layer(self, m: LayerGraph, states: States) -> States:
        """Emit one layer, and the norm that follows it."""
        normed, residual = states
        attended, residual = m.tail(self._attention(m, normed), residual)
        output = m.linear(attended, "o_proj")
        normed, residual = m.add_norm(output, residual, "middle", "post_attention_layernorm")
        return m.next_norm(self._mlp(m, normed), residual)

    def _attention(self, m: LayerGraph, normed: str) -> str:
        query, key, value = m.products(normed, "qkv_proj")
        query_heads = m.head_norm(query, self.num_attention_heads, "self_attn.q_norm")
        key_heads = m.head_norm(key, self.num_key_value_heads, "self_attn.k_norm")
        return m.attend(query_heads, key_heads, m.scaled(value, "value"))

    def _mlp(self, m: LayerGraph, normed: str) -> str:
        gate, up = m.products(normed, "gate_up_proj")
        active = m.silu(m.scaled(gate, "gate"))
        return m.linear(m.times(active, up, "gated"), "down_proj")
