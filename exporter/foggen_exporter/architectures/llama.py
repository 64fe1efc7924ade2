"""Llama 2 and 3, and what is built like them, as SmolLM2.

Follows `modeling_llama.py` of transformers: pre-norm decoder layers, grouped-query attention with
rotary embeddings, SwiGLU, no biases. No norm stands between the products and attention, so queries
and keys need the scales of their rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from foggen_exporter.architectures.config import llama_defaults
from foggen_exporter.architectures.layer_graph import LayerGraph
from foggen_exporter.architectures.llama3_scaling import LLAMA3, Llama3Scaling
from foggen_exporter.architectures.pre_norm import PreNormDecoder
from foggen_runtime.arrays import Float32


@dataclass(frozen=True)
class Llama(PreNormDecoder):
    """The shape of a Llama model; fields are named as in `config.json`."""

    scaling: Llama3Scaling | None = None

    model_type = genai_type = "llama"
    rope_types_built = ("default", LLAMA3)
    only_built: ClassVar[Mapping[str, object]] = {
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "pretraining_tp": 1,
    }

    @classmethod
    def from_config(cls, document: Mapping[str, object]) -> Self:
        """Read a parsed `config.json`; arguments and errors are those of every family."""
        return replace(super().from_config(document), scaling=Llama3Scaling.of(document))

    @classmethod
    def defaults(cls, document: Mapping[str, object]) -> dict[str, object]:
        """Return what fields are where `config.json` leaves them out, or has null."""
        return llama_defaults(document)

    def rotary_frequencies(self) -> dict[str, Float32]:
        """Return radians per position for each pair of rotated values, by the table's name."""
        tables = super().rotary_frequencies()
        if self.scaling is None:
            return tables
        return {name: self.scaling.scaled(frequencies) for name, frequencies in tables.items()}

    def attention(self, m: LayerGraph, normed: str) -> str:
        """Let queries attend to keys, all with their scales."""
        query, key, value = m.products(normed, "qkv_proj")
        return m.attend(m.scaled(query, "query"), m.scaled(key, "key"), m.scaled(value, "value"))
