"""Reading regular files, hashing them, and moving finished ones into place."""

import errno
import hashlib
import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from foggen_runtime.errors import ConfigError

_CHUNK_BYTES = 1 << 20


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, and only a regular one: opening a pipe waits for a writer.

    Raises:
        OSError: It cannot be read, or is not a regular file.
    """
    if stat.S_ISREG(path.stat().st_mode):
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
    raise OSError(errno.EINVAL, "must be a regular file, is not", str(path))


def open_to_append(path: Path) -> BinaryIO:
    """Open a regular file to append to, creating it if need be; links are not followed.

    Raises:
        OSError: It cannot be written, or is not a regular file.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.fdopen(os.open(path, flags, 0o666), "ab")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "must be a regular file, is not", str(path))


def read_small_text(path: Path, max_bytes: int) -> str:
    """Read a UTF-8 file that somebody else may have put there, so nothing is trusted.

    A byte order mark at the beginning is dropped.

    Raises:
        OSError: It cannot be read, is not a regular file, or is larger than `max_bytes`.
        ValueError: It is not UTF-8.
    """
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"must have at most {max_bytes} bytes, has more", str(path))
    return content.decode("utf-8-sig")


def lies_inside(path: Path, directory: Path) -> bool:
    """Whether a path is in a directory, once links are followed.

    The hub's cache counts as inside: a snapshot is a directory of links, `snapshots/REVISION/NAME`
    to `blobs/HASH`.

    Raises:
        OSError: It does not exist, or its links go in circles.
    """
    here, place = directory.resolve(), path.resolve(strict=True)
    roots = [here]
    if here.parent.name == "snapshots":
        roots.append(here.parent.with_name("blobs"))
    return any(place.is_relative_to(root) for root in roots)


def sha256_stream(file: BinaryIO) -> str:
    """Return the SHA-256 of what is left in a file as 64 lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a regular file as 64 lower-case hexadecimal digits."""
    with open_regular(path) as file:
        return sha256_stream(file)


def check_utf8(what: str, path: Path) -> None:
    """Refuse a path that onnxruntime could not open.

    Raises:
        ConfigError: It is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"{what}: its path must be UTF-8, is {os.fsencode(path)!r}; rename it"
        ) from None


def write_text_atomically(path: Path, text: str) -> None:
    """Write a UTF-8 text file so that readers see either the old content or the new.

    The process's umask decides who may read it, as for any new file.

    Raises:
        OSError: The file cannot be written; what was there before is still there.
    """
    write_bytes_atomically(path, text.encode("utf-8"))


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers see either the old content or the new.

    Raises:
        OSError: The file cannot be written; what was there before is still there.
    """
    temporary = _beside(path.parent, f".{path.name}.")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_directory(parent: Path, prefix: str) -> Path:
    """Make an empty directory under a new name; `tempfile` would make one that only we can read.

    Raises:
        OSError: It cannot be created.
    """
    directory = _beside(parent, prefix)
    directory.mkdir()
    return directory


def _beside(parent: Path, prefix: str) -> Path:
    return parent / f"{prefix}{os.urandom(4).hex()}"


@contextmanager
def stops_put_off() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block has ended."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for stop in came:
            signal.raise_signal(stop)
