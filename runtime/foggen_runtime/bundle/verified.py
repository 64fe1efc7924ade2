"""Notes that files were right, kept where whoever hands out a bundle cannot write.

Hashing a bundle takes longer than opening it, so it is done once. A note stands for the very files
that were hashed: device, inode, size and both times of change of each, of which the kernel alone
sets the last. It stays true when their directory is moved, and for no copy of them.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from foggen_runtime.files import read_small_text, write_text_atomically

# What root noted holds for everyone: a service need not hash what its installer did.
_SYSTEM_DIRECTORY = Path("/var/cache/foggen/verified")
_MAX_NOTE_BYTES = 1 << 20


def file_state(found: os.stat_result) -> list[int]:
    """Return what changes whenever a file is written to or replaced."""
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def is_noted(state: Mapping[str, object]) -> bool:
    """Whether this user or root noted that the files are right as they are now."""
    text = _text(state)
    for directory in (_own_directory(), _SYSTEM_DIRECTORY):
        if directory is not None and _holds(_note(directory, text), text):
            return True
    return False


def note(state: Mapping[str, object]) -> None:
    """Note that the files are right; where nothing can be written each use hashes them again."""
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
    except RuntimeError:  # a user without a home
        return None


def _text(state: Mapping[str, object]) -> str:
    return json.dumps(state, sort_keys=True)


def _note(directory: Path, text: str) -> Path:
    return directory / f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def _holds(path: Path, text: str) -> bool:
    """Whether a note is there, and nobody but this user or root can have written it."""
    try:
        found = path.lstat()
        ours = stat.S_ISREG(found.st_mode) and found.st_uid in (0, os.geteuid())
        if not ours or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
        return read_small_text(path, _MAX_NOTE_BYTES) == text
    except (OSError, ValueError):
        return False
