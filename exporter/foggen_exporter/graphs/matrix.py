"""A weight that is read when it is needed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from foggen_exporter.recipes.block_quantization import Float32
from foggen_exporter.recipes.error_feedback import InputSample


@dataclass(frozen=True)
class Matrix:
    """A (rows, columns) weight, rows being outputs, read in chunks of rows when needed.

    Attributes:
        name: The prefix of the names of its initializers, e.g. `layers.0.qkv_proj`.
        chunks: Yields float32 arrays of shape (some rows, columns), in order.
        sample: What it is multiplied with; blocks are then rounded with error feedback.
    """

    name: str
    shape: tuple[int, int]
    chunks: Callable[[], Iterator[Float32]]
    sample: InputSample | None = None
