"""Reading safetensors files lazily, in bounded memory and without torch."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from foggen_runtime.arrays import Float32
from foggen_runtime.errors import CheckpointError

_CHUNK_BYTES = 16 << 20
_CHUNK_ROWS = 8192
DTYPES: Mapping[str, np.dtype[Any]] = {
    # Importing ml_dtypes registers the name by which safetensors finds numpy's bfloat16.
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}
_WIDEST = np.dtype(np.float64)


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies, under which name, and its form."""

    path: Path
    stored_name: str
    dtype: str
    shape: tuple[int, ...]


class WeightFiles(ABC):
    """The tensors of a checkpoint, by name and as float32, whatever its format.

    Attributes:
        entries: The tensors by name.
    """

    entries: dict[str, TensorEntry]

    @abstractmethod
    def check_dtypes(self) -> None:
        """Check that every tensor is of a type that is read."""

    def rows(self, name: str, start: int, stop: int) -> Float32:
        """Read some rows of a tensor as float32.

        Raises:
            CheckpointError: The file cannot be read any more, or a value is NaN or infinite.
        """
        shape = self.entries[name].shape
        if not 0 <= start <= stop <= shape[0]:
            raise IndexError(f"{name}: rows {start} to {stop} of {shape[0]}")
        read = np.empty((stop - start, *shape[1:]), np.float32)
        for at, chunk in self._chunks(name, start, stop):
            part = read[at - start : at - start + len(chunk)]
            part[:] = chunk
            check_finite(name, part)
        return read

    @abstractmethod
    def take(self, name: str, indices: Sequence[int]) -> Float32:
        """Read single rows of a tensor, in the order of `indices`; raises as `rows` does."""

    def tensor(self, name: str) -> Float32:
        """Read a whole tensor as float32; raises as `rows` does."""
        return self.rows(name, 0, self.entries[name].shape[0])

    @abstractmethod
    def check_finite(self) -> None:
        """Read everything once; raises as `rows` does."""

    @abstractmethod
    def sha256(self) -> str:
        """Hash the weights."""

    @abstractmethod
    def _chunks(self, name: str, start: int, stop: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield `(first row, rows)`, in float32 or whatever they are stored in."""


class TensorFiles(WeightFiles):
    """The tensors of one or more safetensors files, read lazily and in bounded memory.

    safetensors maps files into memory, and the pages of a mapping count as resident until it is
    dropped. So files are opened again for every chunk of rows.
    """

    def __init__(self, paths: Iterable[Path], rename: Callable[[str], str] = str) -> None:
        """Read the headers.

        Args:
            paths: The files.
            rename: Turns a tensor's name in the file into the one used here.

        Raises:
            CheckpointError: A file is missing or broken, or two tensors have the same name.
        """
        self.entries: dict[str, TensorEntry] = {}
        for path in paths:
            with _opened(path) as file:
                for stored in file.keys():  # noqa: SIM118 (no mapping, cannot be iterated)
                    name = rename(stored)
                    if name in self.entries:
                        raise _twice(name, self.entries[name], path, stored)
                    part = file.get_slice(stored)
                    form = part.get_dtype(), tuple(part.get_shape())
                    self.entries[name] = TensorEntry(path, stored, *form)

    def check_dtypes(self, allowed: Collection[str] = tuple(DTYPES)) -> None:
        """Check that every tensor is of a type that can be read, such as a plain float.

        Raises:
            CheckpointError: Some tensor has another type, as in a quantized checkpoint.
        """
        for name, entry in self.entries.items():
            if entry.dtype not in allowed:
                raise CheckpointError(
                    f"{entry.path}: {name}: dtype must be one of {', '.join(allowed)}, "
                    f"is {entry.dtype}; export from weights that are not quantized"
                )

    def take(self, name: str, indices: Sequence[int]) -> Float32:
        """Read single rows of a tensor as float32, in the order of `indices`; raises as `rows`."""
        entry = self.entries[name]
        read = np.empty((len(indices), *entry.shape[1:]), np.float32)
        with _opened(entry.path) as file:
            rows = file.get_slice(entry.stored_name)
            for at, index in enumerate(indices):
                read[at] = rows[index : index + 1][0]
        check_finite(name, read)
        return read

    def check_finite(self) -> None:
        """Read all floats once; raises as `rows` does."""
        for name, entry in self.entries.items():
            for chunk in self._all_chunks(name) if entry.dtype in DTYPES else ():
                check_finite(name, chunk)

    def sha256(self) -> str:
        """Hash name, dtype, shape and bytes of all tensors, in the order of their names."""
        digest = hashlib.sha256()
        for name, entry in sorted(self.entries.items()):
            digest.update(json.dumps([name, entry.dtype, entry.shape]).encode())
            for chunk in self._all_chunks(name):
                digest.update(np.ascontiguousarray(chunk).view(np.uint8).data)
        return digest.hexdigest()

    def _all_chunks(self, name: str) -> Iterator[NDArray[Any]]:
        """Yield a whole tensor's rows as stored; for a single number, that number."""
        entry = self.entries[name]
        if entry.shape:
            for _, chunk in self._chunks(name, 0, entry.shape[0]):
                yield chunk
            return
        with _opened(entry.path) as file:
            yield file.get_tensor(entry.stored_name).reshape(1)

    def _chunks(self, name: str, start: int, stop: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield `(first row, rows as stored)`."""
        entry = self.entries[name]
        step = rows_per_chunk(entry.shape, DTYPES.get(entry.dtype, _WIDEST).itemsize)
        for at in range(start, stop, step):
            with _opened(entry.path) as file:
                chunk = file.get_slice(entry.stored_name)[at : min(at + step, stop)]
            yield at, chunk


def rows_per_chunk(shape: tuple[int, ...], itemsize: int) -> int:
    """Return how many rows of such a tensor to work on at a time, to bound memory."""
    row_bytes = itemsize * int(np.prod(shape[1:]))
    return max(1, _CHUNK_BYTES // max(1, row_bytes))


def row_chunks(
    rows: Callable[[str, int, int], Float32], counts: Mapping[str, int]
) -> Iterator[Float32]:
    """Read tensors one below the other, some rows at a time.

    Args:
        rows: Reads rows of a tensor, from one up to another.
        counts: How many rows each tensor has.
    """
    for name, count in counts.items():
        for start in range(0, count, _CHUNK_ROWS):
            yield rows(name, start, min(start + _CHUNK_ROWS, count))


def same_values(
    rows: Callable[[str, int, int], Float32], names: tuple[str, str], shape: tuple[int, ...]
) -> bool:
    """Compare two tensors of one shape value by value, a chunk of rows at a time."""
    one, other = names
    step = rows_per_chunk(shape, np.dtype(np.float32).itemsize)
    for at in range(0, shape[0], step):
        stop = min(at + step, shape[0])
        if not np.array_equal(rows(one, at, stop), rows(other, at, stop)):
            return False
    return True


def check_finite(name: str, values: NDArray[Any]) -> None:
    """Check a tensor's values.

    Raises:
        CheckpointError: One is NaN or infinite.
    """
    if not np.isfinite(values).all():
        raise CheckpointError(f"{name}: must be finite, holds NaN or infinite values")


def _twice(name: str, first: TensorEntry, path: Path, stored: str) -> CheckpointError:
    if first.path != path:
        return CheckpointError(f"{path}: holds {name}, as another file does")
    return CheckpointError(
        f"{path}: holds {name} twice, as {first.stored_name} and as {stored}; save the model again "
        "without what training wrapped around it"
    )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: cannot be read, it may be cut short or damaged: {error}"
        ) from error
