"""Llama 2 and 3, and what is built like them, as SmolLM2.

Follows `modeling_llama.py` of transformers: pre-norm decoder layers, grouped-query attention with
rotary embeddings, SwiGLU, no biases. No norm stands between the products and attention, so queries
and keys need the scales of their rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from foggen_exporter.architectures.config import llama_defaults, rope_parameters, rope_type
from foggen_exporter.architectures.layer_graph import LayerGraph
from foggen_exporter.architectures.pre_norm import PreNormDecoder
from foggen_runtime.arrays import Float32
from foggen_runtime.errors import CheckpointError
from foggen_runtime.jsonio import FieldError, from_json

_LLAMA3 = "llama3"


@dataclass(frozen=True)
class Llama3Scaling:
    """How Llama 3.1 stretches its rotary embedding; fields are named as in `config.json`.

    Waves that go round often within the original context stay; those that hardly do are slowed down
    by a factor; between them lies a ramp (`_compute_llama3_parameters` of transformers).
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"factor: must be at least 1, is {self.factor}")
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ValueError(
                f"low_freq_factor: must be positive and below high_freq_factor "
                f"({self.high_freq_factor}), is {self.low_freq_factor}"
            )
        if self.original_max_position_embeddings < 1:
            raise ValueError(
                "original_max_position_embeddings: must be at least 1, is "
                f"{self.original_max_position_embeddings}"
            )

    @classmethod
    def of(cls, document: Mapping[str, object]) -> Self | None:
        """Read it from a parsed `config.json`, if that asks for it.

        Raises:
            CheckpointError: A field is missing, or not as it must be.
        """
        name, parameters = rope_parameters(document)
        if rope_type(parameters) != _LLAMA3:
            return None
        known = {field: parameters[field] for field in cls.__annotations__ if field in parameters}
        try:
            return from_json(cls, known, f"config.json: {name}")
        except FieldError as error:
            raise CheckpointError(str(error)) from error

    def scaled(self, frequencies: Float32) -> Float32:
        """Return the frequencies, in radians per position, as they are to be used."""
        turns = self.original_max_position_embeddings * frequencies / np.float32(2 * np.pi)
        width = self.high_freq_factor - self.low_freq_factor
        kept = np.clip((turns - self.low_freq_factor) / width, 0, 1)
        scaled: Float32 = (kept * frequencies + (1 - kept) * frequencies / self.factor).astype(
            np.float32
        )
        return scaled


@dataclass(frozen=True)
class Llama(PreNormDecoder):
    """The shape of a Llama model; fields are named as in `config.json`."""

    scaling: Llama3Scaling | None = None

    model_type = genai_type = "llama"
    rope_types_built = ("default", _LLAMA3)
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
