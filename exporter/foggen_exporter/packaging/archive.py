"""Tar archives, compressed by xz, that are the same bytes for the same contents."""

import hashlib
import io
import lzma
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

from foggen_exporter.packaging.listed_files import ListedFile
from foggen_runtime.errors import ConfigError
from foggen_runtime.files import make_directory, sha256_file
from foggen_runtime.placing import Place, followed, put_all

# What every file's time of change is: 1980-01-01, the first that zip archives know.
MTIME = 315_532_800
_MIN_PART_BYTES = 1 << 10
_MIN_WINDOW_BYTES = 1 << 16
_MAX_WINDOW_BYTES = 64 << 20
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


@dataclass(frozen=True)
class Section:
    """Entries that share an xz stream of their own, with settings that suit them."""

    entries: Sequence[Entry]
    filters: Mapping[str, int]


def text_section(entries: Sequence[Entry]) -> Section:
    """Return a section for text and other small files."""
    return Section(entries, {"preset": 9 | lzma.PRESET_EXTREME, "dict_size": _window(entries)})


def code_section(entries: Sequence[Entry]) -> Section:
    """Return a section for machine code of four-byte instructions.

    Its window reaches back to the same library built for another Python.
    """
    alignment = {"lc": 2, "lp": 2, "pb": 2}
    preset = 9 | lzma.PRESET_EXTREME
    return Section(entries, {"preset": preset, "dict_size": _window(entries), **alignment})


def weights_section(entries: Sequence[Entry]) -> Section:
    """Return a section for quantized weights, where searching harder finds nothing."""
    return Section(entries, {"preset": 1})


def _window(entries: Sequence[Entry]) -> int:
    """Return how far back to search, in bytes: no further than needed, for memory's sake."""
    total = sum(entry.size for entry in entries)
    return min(max(1 << total.bit_length(), _MIN_WINDOW_BYTES), _MAX_WINDOW_BYTES)


def parse_size(text: str) -> int:
    """Read e.g. `50MB` as a number of bytes.

    Raises:
        ConfigError: It is no size, or too small to be one of a part.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _UNITS[match[2].lower()] if match else 0
    if size < _MIN_PART_BYTES:
        raise ConfigError(f"split: must be a size of at least 1 kB, e.g. 50MB; is {text!r}")
    return size


@dataclass
class _Parts:
    """Files that bytes are written to one after the other, each full but the last."""

    directory: Path
    name: str
    part_bytes: int | None
    paths: list[Path] = field(default_factory=list)
    _file: BinaryIO | None = None
    _room: int = 0

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._file is None or (self.part_bytes and self._room == 0):
                self._next()
            assert self._file is not None
            step = view[: self._room] if self.part_bytes else view
            self._file.write(step)
            self._room -= len(step)
            view = view[len(step) :]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _next(self) -> None:
        self.close()
        suffix = f".{len(self.paths):03}" if self.part_bytes else ""
        self.paths.append(self.directory / f"{self.name}{suffix}")
        self._file = self.paths[-1].open("wb")
        self._room = self.part_bytes or 0


class _XzWriter(io.RawIOBase):
    """Compresses what is written, in several xz streams: together they are one xz file."""

    def __init__(self, parts: _Parts) -> None:
        self._parts = parts
        self._compressor: lzma.LZMACompressor | None = None
        self._written = 0

    def next_stream(self, filters: Mapping[str, int]) -> None:
        self.finish()
        self._compressor = lzma.LZMACompressor(
            lzma.FORMAT_XZ, lzma.CHECK_SHA256, filters=[{"id": lzma.FILTER_LZMA2, **filters}]
        )

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if self._compressor is None:
            raise ValueError("xz: must be in a stream, next_stream was not called")
        self._parts.write(self._compressor.compress(data))
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def finish(self) -> None:
        if self._compressor is not None:
            self._parts.write(self._compressor.flush())
            self._compressor = None


@contextmanager
def partial_files(target: Path) -> Iterator[Path]:
    """Give a directory beside `target` for files to be moved from when the block ends well.

    Raises:
        ConfigError: Something cannot be written; nothing is left behind.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = make_directory(target.parent, f".{target.name}.partial-")
    except OSError as error:
        raise ConfigError(f"output: cannot write beside {target}: {error}") from error
    try:
        yield partial
    except OSError as error:
        raise ConfigError(f"output: cannot write {target}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class ArchivePlace:
    """Where an archive goes, and which files of an earlier one it is to replace.

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
            ConfigError: Something is there under its name, that of a part or of the hashes, and
                `force` is not given or it is no file.
        """
        target = followed(target)
        names = re.compile(rf"{re.escape(target.name)}(\.\d{{3,}}|\.sha256)?")
        there = target.parent.glob("*") if target.parent.is_dir() else ()
        found = sorted(path for path in there if names.fullmatch(path.name))
        return cls(target, tuple(Place.file(path, force=force) for path in found))

    def put(self, files: Sequence[Path]) -> list[Path]:
        """Move the finished files here, and remove what was found; return where they are.

        Raises:
            ConfigError: Something else is there by now; the files are kept beside.
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
    place: ArchivePlace, sections: Sequence[Section], part_bytes: int | None, advance: Advance
) -> list[Path]:
    """Write a `.tar.xz`, or its parts, and beside it the hashes that `sha256sum -c` reads.

    Equal contents within a section become hard links.

    Args:
        place: Where it goes.
        sections: What goes in, in this order.
        part_bytes: Size of a part; None for one file.
        advance: Called with a number of bytes read.

    Returns:
        The archive, or its parts in order.

    Raises:
        ConfigError: It cannot be written, or a file is not as listed.
    """
    target = place.target
    with partial_files(target) as partial:
        parts = _Parts(partial, target.name, part_bytes)
        try:
            _write_tar(_XzWriter(parts), sections, advance)
        finally:
            parts.close()
        sums = partial / f"{target.name}.sha256"
        lines = [f"{sha256_file(path)}  {path.name}\n" for path in parts.paths]
        sums.write_text("".join(lines), encoding="utf-8")
        return place.put([*parts.paths, sums])[:-1]


def _write_tar(xz: _XzWriter, sections: Sequence[Section], advance: Advance) -> None:
    xz.next_stream(sections[0].filters)
    with tarfile.TarFile(fileobj=xz, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for section in sections:
            xz.next_stream(section.filters)
            seen: dict[tuple[str, bool], str] = {}
            for entry in section.entries:
                same = seen.setdefault((entry.sha256, entry.executable), entry.name)
                _add(tar, entry, same if same != entry.name else None)
                advance(entry.size)
    xz.finish()


def _add(tar: tarfile.TarFile, entry: Entry, same: str | None) -> None:
    info = tarfile.TarInfo(entry.name)
    info.mtime = MTIME
    info.mode = 0o755 if entry.executable else 0o644
    info.uname = info.gname = "root"
    if same is not None:
        info.type, info.linkname = tarfile.LNKTYPE, same
        tar.addfile(info)
        return
    info.size = entry.size
    with entry.open() as file:
        tar.addfile(info, file)
