"""Channels that may be scaled where they are written, if they are scaled back where read."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foggen_runtime.arrays import Float32

Exponents = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Channels:
    """Channels between the tensors that write them and those that read them.

    Attributes:
        matrix: The name of the matrix product that reads them, e.g. `layers.0.o_proj`.
        writers: The tensors whose rows, or entries, write them: a matrix, and its bias if it has
            one; or a norm's gains.
        readers: The tensors whose columns read them.
        heads: (key/value heads, query heads to each) where each key/value head's channels are read
            once for every query head of its group; None where each is read once.
    """

    matrix: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    heads: tuple[int, int] | None = None

    def largest(self, read: Float32) -> Float32:
        """Return the largest of what is read, (read channels,), for each written channel."""
        if self.heads is None:
            return read
        largest: Float32 = read.reshape(*self.heads, -1).max(axis=1).reshape(-1)
        return largest

    def spread(self, written: Exponents) -> Exponents:
        """Return what is written, (written channels,), for each read channel."""
        if self.heads is None:
            return written
        groups, queries = self.heads
        return np.repeat(written.reshape(groups, 1, -1), queries, axis=1).reshape(-1)
