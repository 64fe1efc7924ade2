"""A weight that is read when it is needed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from foggen_exporter.block_quantization import Float32


@dataclass(frozen=True)
class Matrix:
    """A (rows, columns) weight, rows being outputs, read in chunks of rows when needed.

    Attributes:
        name: The prefix of the names of its initializers, e.g. `layers.0.qkv_proj`.
        chunks: Yields float32 arrays of shape (some rows, columns), in order.
    """

    name: str
    shape: tuple[int, int]
    chunks: Callable[[], Iterator[Float32]]
