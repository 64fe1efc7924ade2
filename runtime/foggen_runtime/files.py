"""Hashing files and moving finished ones into place."""

import hashlib
import os
from pathlib import Path

from foggen_runtime.errors import ConfigError

_CHUNK_BYTES = 1 << 20


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def check_utf8(what: str, path: Path) -> None:
    """Refuse a path that onnxruntime and tokenizers cannot be given.

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
    """Write a UTF-8 text file so that readers see the old content or the new, never a part.

    Raises:
        OSError: The file cannot be written; what was there before is still there.
    """
    import tempfile  # it imports much, and every start reads while few write

    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
