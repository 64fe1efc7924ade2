"""Notes that files were right, kept where the bundle's publisher cannot write.

Hashing a bundle takes longer than opening it, so it is done once. A note is about the very files
that were hashed: it has each one's device, inode, size, mtime and ctime, and only the kernel can
set a ctime. It stays valid when their directory is moved, but not for a copy.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from foggen_runtime.files import read_small_text, write_text_atomically

# Root's notes count for everyone: a service need not hash again what its installer did.
_SYSTEM_DIRECTORY = Path("/var/cache/foggen/verified")
_MAX_NOTE_BYTES = 1 << 20


def file_state(found: os.stat_result) -> list[int]:
    """Return values that change whenever a file is written to or replaced."""
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def is_noted(state: Mapping[str, object]) -> bool:
    """Whether this user or root has noted that the files are right as they are now."""
    text = _text(state)
    for directory in (_own_directory(), _SYSTEM_DIRECTORY):
        if directory is not None and _holds(_note(directory, text), text):
            return True
    return False


def note(state: Mapping[str, object]) -> None:
    """Note that the files are right; if that cannot be written, each use hashes them again."""
    directory, text = _own_directory(), _text(state)
    if directory is None:
        return
    with suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        write_text_atomically(_note(directory, text), text)


def _own_directory() -> Path | None:
    """Return where this user keeps notes, as the XDG Base Directory Specification has it."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    if root.startswith("/"):
        return Path(root) / "foggen" / "verified"
    if os.geteuid() == 0:
        return _SYSTEM_DIRECTORY
    try:
        return Path.home() / ".cache" / "foggen" / "verified"
    except RuntimeError:  # this user has no home
        return None


def _text(state: Mapping[str, object]) -> str:
    return json.dumps(state, sort_keys=True)


def _note(directory: Path, text: str) -> Path:
    return directory / f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def _holds(path: Path, text: str) -> bool:
    """Whether there is a note that only this user or root can have written."""
    try:
        found = path.lstat()
        ours = stat.S_ISREG(found.st_mode) and found.st_uid in (0, os.geteuid())
        if not ours or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
        return read_small_text(path, _MAX_NOTE_BYTES) == text
    except (OSError, ValueError):
        return False
