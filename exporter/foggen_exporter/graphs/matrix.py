"""A weight that is read when it is needed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from foggen_exporter.recipes.error_feedback import InputSample
from foggen_runtime.arrays import Float32

Shape = tuple[int, int]  # (rows, columns)


@dataclass(frozen=True)
class Matrix:
    """A (rows, columns) weight, rows being outputs, read in chunks of rows when needed.

    Attributes:
        name: The prefix of the names of its initializers, e.g. `layers.0.qkv_proj`.
        chunks: Yields float32 arrays of shape (some rows, columns), in order.
        sample: What it is multiplied with; blocks are then rounded with error feedback.
    """

    name: str
    shape: Shape
    chunks: Callable[[], Iterator[Float32]]
    sample: InputSample | None = None

    @classmethod
    def stacked(
        cls,
        name: str,
        shapes: Sequence[Shape],
        chunks: Callable[[], Iterator[Float32]],
        sample: InputSample | None,
    ) -> Self:
        """Describe matrices one below the other as one."""
        return cls(name, stacked_shape(shapes), chunks, sample)


def stacked_shape(shapes: Sequence[Shape]) -> Shape:
    """Return the (rows, columns) of matrices one below the other."""
    return sum(rows for rows, _ in shapes), shapes[0][1]
