"""Files with questions and answers in them, readable by their owner only.

An existing file, perhaps restored from a backup or written by an older foggen, may be readable by
others: opening it ends that.
"""

import os
import stat
from pathlib import Path

_OWNER_ONLY = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def open_private(path: Path, flags: int) -> int:
    """Open a file as `os.open` does, or create it, so that its owner alone may read it.

    Raises:
        OSError: It cannot be opened, or others may read it and it belongs to another user.
    """
    file = os.open(path, flags | os.O_CREAT, _OWNER_ONLY)
    try:
        make_private(path)
    except BaseException:
        os.close(file)
        raise
    return file


def make_private(path: Path) -> None:
    """Let only its owner read a file, if there is one.

    The file is not opened: closing it would end the locks that SQLite holds on it.

    Raises:
        OSError: Others may read it, and it belongs to another user.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) and mode & _OTHERS:
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise PermissionError(
            error.errno, "must be readable by its owner only, and belongs to another user"
        ) from error
