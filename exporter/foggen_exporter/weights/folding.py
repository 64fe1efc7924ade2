"""Folding: a checkpoint whose channels are scaled where they are written and back where read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from foggen_exporter.weights.checkpoint import DerivedCheckpoint, HeadKind, TensorSource
from foggen_exporter.weights.tensor_files import Float32Array

Exponents = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Channels:
    """Channels between the tensors that write them and those that read them.

    Attributes:
        matrix: The name of the matrix product that reads them, e.g. `layers.0.o_proj`.
        writer: The tensor whose rows, or entries, write them.
        readers: The tensors whose columns read them.
        heads: (key/value heads, query heads to each) where each key/value head's channels are read
            once for every query head of its group; None where each is read once.
    """

    matrix: str
    writer: str
    readers: tuple[str, ...]
    heads: tuple[int, int] | None = None

    def largest(self, read: Float32Array) -> Float32Array:
        """Return the largest of what is read, (read channels,), for each written channel."""
        if self.heads is None:
            return read
        largest: Float32Array = read.reshape(*self.heads, -1).max(axis=1).reshape(-1)
        return largest

    def spread(self, written: Exponents) -> Exponents:
        """Return what is written, (written channels,), for each read channel."""
        if self.heads is None:
            return written
        groups, queries = self.heads
        return np.repeat(written.reshape(groups, 1, -1), queries, axis=1).reshape(-1)


@dataclass(frozen=True)
class FoldedCheckpoint(DerivedCheckpoint):
    """A `TensorSource` that computes what its base does, with channels scaled inside.

    Scales are powers of two, so that nothing is rounded anew.

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
        rows_down = {channels.writer: down for channels, down in scales.items()}
        columns_up: dict[str, Exponents] = {}
        for channels, down in scales.items():
            columns_up |= dict.fromkeys(channels.readers, channels.spread(down))
        return cls(base, rows_down, columns_up)

    @property
    def lm_head(self) -> HeadKind:
        """Whether the output projection shares the embedding's weights, which are not folded."""
        return self.base.lm_head

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences to show to the user."""
        return self.base.warnings

    def rows(self, name: str, start: int, stop: int) -> Float32Array:
        """Read rows `start` to `stop` of a folded tensor as float32."""
        return self._folded(name, self.base.rows(name, start, stop), slice(start, stop))

    def take(self, name: str, indices: Sequence[int]) -> Float32Array:
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

    def _folded(self, name: str, rows: Float32Array, which: slice | list[int]) -> Float32Array:
        if name in self.rows_down:
            down = -self.rows_down[name][which]
            rows = np.ldexp(rows, down.reshape(-1, *[1] * (rows.ndim - 1)))
        if name in self.columns_up:
            rows = np.ldexp(rows, self.columns_up[name])
        return rows
