"""How Llama 3 stretches its rotary embedding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from foggen_exporter.architectures.config import rope_parameters, rope_type
from foggen_runtime.arrays import Float32
from foggen_runtime.errors import CheckpointError
from foggen_runtime.jsonio import FieldError, from_json

LLAMA3 = "llama3"  # its `rope_type`


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
        if rope_type(parameters) != LLAMA3:
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
