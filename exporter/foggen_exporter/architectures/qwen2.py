"""Qwen2 and Qwen2.5.

Follows `modeling_qwen2.py` of transformers: Llama's layer, with biases for queries, keys and
values. A bias is no product: the scales of rows are multiplied in before it is added.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from foggen_exporter.architectures.config import Sizes, llama_defaults
from foggen_exporter.architectures.layer_graph import LayerGraph
from foggen_exporter.architectures.pre_norm import PreNormDecoder


@dataclass(frozen=True)
class Qwen2(PreNormDecoder):
    """The shape of a Qwen2 model; fields are named as in `config.json`."""

    model_type = genai_type = "qwen2"
    only_built: ClassVar[Mapping[str, object]] = {
        "hidden_act": "silu",
        "use_sliding_window": False,
        "use_mrope": False,
    }

    @classmethod
    def defaults(cls, document: Mapping[str, object]) -> dict[str, object]:
        """Return what fields are where `config.json` leaves them out, or has null."""
        return llama_defaults(document)

    def layer_vectors(self) -> dict[str, Sizes]:
        """Return the shapes of a layer's norms, and of the biases of queries, keys and values."""
        queries = {"num_attention_heads * head_dim": self.num_attention_heads * self.head_dim}
        keys = {"num_key_value_heads * head_dim": self.num_key_value_heads * self.head_dim}
        return super().layer_vectors() | {
            "self_attn.q_proj.bias": queries,
            "self_attn.k_proj.bias": keys,
            "self_attn.v_proj.bias": keys,
        }

    def attention(self, m: LayerGraph, normed: str) -> str:
        """Let queries attend to keys, all with their scales and then their biases."""
        products = zip("qkv", m.products(normed, "qkv_proj"), strict=True)
        query, key, value = (
            m.biased(product, part, f"self_attn.{part}_proj") for part, product in products
        )
        return m.attend(query, key, value)
