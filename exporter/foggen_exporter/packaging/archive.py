"""Tar archives, compressed by xz, with the same bytes for the same contents."""

import hashlib
import io
import lzma
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from foggen_exporter.packaging.listed_files import ListedFile
from foggen_runtime.errors import ConfigError
from foggen_runtime.files import make_directory, sha256_file
from foggen_runtime.placing import Place, followed, put_all

# Every file's modification time: 1980-01-01, the earliest that zip archives know.
MTIME = 315_532_800
_MIN_PART_BYTES = 1 << 10
# Preset 9 looks back 64 MB, far enough to find the same library built for another Python. Most of a
# package is machine code in words of four bytes: contexts aligned to such words (lp and pb are the
# logarithm of 4, lc + lp may be at most 4) save 1.6 %.
_FILTER = {"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 2, "lp": 2, "pb": 2}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_SIZE = re.compile(r"(\d+)\s*([kmg]?)i?b?", re.IGNORECASE)

Advance = Callable[[int], object]


@dataclass(frozen=True)
class Entry:
    """One file of an archive.

    Attributes:
        name: Its path inside, with slashes.
        content: Its bytes, or the file that has them, whose size and hash are known.
        executable: Whether it is a program.
    """

    name: str
    content: bytes | ListedFile
    executable: bool = False

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.info.bytes

    @property
    def sha256(self) -> str:
        """Hash of the content."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        return self.content.info.sha256

    def open(self) -> BinaryIO:
        """Open the content for reading."""
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open()


def parse_size(text: str) -> int:
    """Read e.g. `50MB` as a number of bytes.

    Raises:
        ConfigError: It is not a size, or too small for a part.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _UNITS[match[2].lower()] if match else 0
    if size < _MIN_PART_BYTES:
        raise ConfigError(f"split: must be a size of at least 1 kB, e.g. 50MB; is {text!r}")
    return size


@contextmanager
def partial_files(target: Path) -> Iterator[Path]:
    """Yield a directory next to `target`, for files to be moved from when the block succeeds.

    Raises:
        ConfigError: Something cannot be written; nothing is left behind.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = make_directory(target.parent, f".{target.name}.partial-")
    except OSError as error:
        raise ConfigError(f"output: cannot write next to {target}: {error}") from error
    try:
        yield partial
    except OSError as error:
        raise ConfigError(f"output: cannot write {target}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class ArchivePlace:
    """Where an archive goes, and which files of an earlier one it replaces.

    Attributes:
        target: The archive; parts are called `<name>.000`, `<name>.001`, …, and the hashes that
            `sha256sum -c` reads `<name>.sha256`.
        found: The files that were there under such names.
    """

    target: Path
    found: tuple[Place, ...]

    @classmethod
    def of(cls, target: Path, *, force: bool) -> Self:
        """Look at where an archive is to go.

        Raises:
            ConfigError: Something has its name, a part's or the hashes', and `force` is not given
                or it is not a file.
        """
        target = followed(target)
        names = re.compile(rf"{re.escape(target.name)}(\.\d{{3,}}|\.sha256)?")
        there = target.parent.glob("*") if target.parent.is_dir() else ()
        found = sorted(path for path in there if names.fullmatch(path.name))
        return cls(target, tuple(Place.file(path, force=force) for path in found))

    def put(self, files: Sequence[Path]) -> list[Path]:
        """Move the finished files here, and remove what was found; return where they are.

        Raises:
            ConfigError: Something else is there by now; the files are kept next to it.
        """
        found = {place.path: place for place in self.found}
        paths = [self.target.parent / path.name for path in files]
        work: list[tuple[Place, Path | None]] = [
            (found.get(path, Place(path, None)), new)
            for path, new in zip(paths, files, strict=True)
        ]
        work += [(place, None) for place in self.found if place.path not in paths]
        put_all(work)
        return paths


def write_archive(
    place: ArchivePlace, entries: Sequence[Entry], part_bytes: int | None, advance: Advance
) -> list[Path]:
    """Write a `.tar.xz`, or its parts, and next to it the hashes that `sha256sum -c` reads.

    Args:
        place: Where it goes.
        entries: What goes in, in this order.
        part_bytes: Size of a part; None for one file.
        advance: Called with a number of bytes read.

    Returns:
        The archive, or its parts in order.

    Raises:
        ConfigError: It cannot be written, or a file is not as listed.
    """
    with partial_files(place.target) as partial:
        whole = partial / place.target.name
        _write_tar(whole, entries, advance)
        paths = _split(whole, part_bytes) if part_bytes else [whole]
        sums = partial / f"{whole.name}.sha256"
        lines = [f"{sha256_file(path)}  {path.name}\n" for path in paths]
        sums.write_text("".join(lines), encoding="utf-8")
        return place.put([*paths, sums])[:-1]


def _write_tar(path: Path, entries: Sequence[Entry], advance: Advance) -> None:
    with (
        lzma.open(path, "wb", check=lzma.CHECK_SHA256, filters=[_FILTER]) as xz,
        tarfile.open(fileobj=xz, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.size = entry.size
            info.mtime = MTIME
            info.mode = 0o755 if entry.executable else 0o644
            info.uname = info.gname = "root"
            with entry.open() as file:
                tar.addfile(info, file)
            advance(entry.size)


def _split(whole: Path, part_bytes: int) -> list[Path]:
    """Cut a file into parts, as `split -d -a 3` does."""
    parts: list[Path] = []
    with whole.open("rb") as file:
        while data := file.read(part_bytes):
            parts.append(whole.with_name(f"{whole.name}.{len(parts):03}"))
            parts[-1].write_bytes(data)
    whole.unlink()
    return parts
