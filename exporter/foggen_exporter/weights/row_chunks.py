"""Weights read some rows at a time, when they are needed."""

from collections.abc import Iterator
from dataclasses import dataclass

from foggen_exporter.recipes.block_quantization import Float32
from foggen_exporter.weights.checkpoint import TensorSource

_CHUNK_ROWS = 8192


@dataclass(frozen=True)
class RowChunks:
    """Reads tensors one below the other, some rows at a time."""

    source: TensorSource
    tensors: tuple[str, ...]

    def __call__(self) -> Iterator[Float32]:
        """Yield (some rows, columns), in order."""
        for tensor in self.tensors:
            rows = self.source.shape(tensor)[0]
            for start in range(0, rows, _CHUNK_ROWS):
                yield self.source.rows(tensor, start, min(start + _CHUNK_ROWS, rows))


@dataclass(frozen=True)
class SingleRows:
    """Reads some rows of a tensor."""

    source: TensorSource
    tensor: str
    indices: tuple[int, ...]

    def __call__(self) -> Iterator[Float32]:
        """Yield (rows, columns) once."""
        yield self.source.take(self.tensor, self.indices)
