"""Folding: scaling a checkpoint's channels where they are written, and back where they are read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from foggen_exporter.architectures.channels import Channels, Exponents
from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.weights.checkpoint import DerivedCheckpoint
from foggen_runtime.arrays import Float32


@dataclass(frozen=True)
class FoldedCheckpoint(DerivedCheckpoint):
    """A `TensorSource` that computes what its base does, with channels scaled inside.

    Scales are powers of two, so that scaling rounds nothing.

    Attributes:
        base: The checkpoint as it was.
        rows_down: By tensor, the powers of two that its rows or entries are divided by.
        columns_up: By tensor, the powers of two that its columns are multiplied with.
    """

    rows_down: Mapping[str, Exponents]
    columns_up: Mapping[str, Exponents]

    @classmethod
    def of(cls, base: TensorSource, scales: Mapping[Channels, Exponents]) -> Self:
        """Fold by the powers of two that written channels are divided by."""
        rows_down: dict[str, Exponents] = {}
        columns_up: dict[str, Exponents] = {}
        for channels, down in scales.items():
            rows_down |= dict.fromkeys(channels.writers, down)
            columns_up |= dict.fromkeys(channels.readers, channels.spread(down))
        return cls(base, rows_down, columns_up)

    @property
    def tied(self) -> bool:
        """Whether the output projection's weights are the embedding's, which are not folded."""
        return self.base.tied

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences to show to the user."""
        return self.base.warnings

    def rows(self, name: str, start: int, stop: int) -> Float32:
        """Read rows `start` to `stop` of a folded tensor as float32."""
        return self._folded(name, self.base.rows(name, start, stop), slice(start, stop))

    def take(self, name: str, indices: Sequence[int]) -> Float32:
        """Read single rows of a folded tensor as float32."""
        return self._folded(name, self.base.take(name, indices), list(indices))

    def weights_sha256(self) -> str:
        """Hash the base's weights and the scales."""
        scales = [
            {name: exponents.tolist() for name, exponents in sorted(part.items())}
            for part in (self.rows_down, self.columns_up)
        ]
        parts = [self.base.weights_sha256(), scales]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _folded(self, name: str, rows: Float32, which: slice | list[int]) -> Float32:
        if name in self.rows_down:
            down = -self.rows_down[name][which]
            rows = np.ldexp(rows, down.reshape(-1, *[1] * (rows.ndim - 1)))
        if name in self.columns_up:
            rows = np.ldexp(rows, self.columns_up[name])
        return rows
