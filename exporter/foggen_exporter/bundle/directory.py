"""Writing a bundle so that it appears all at once or not at all.

It is written to `.NAME.partial-PROCESS-RANDOM` next to its place. The directory stays locked as
long as its process lives, however it ends, so what a killed export left can be told from what a
running one is writing.
"""

import fcntl
import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from foggen_runtime.errors import ConfigError
from foggen_runtime.files import make_directory
from foggen_runtime.placing import Place

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def bundle_directory(place: Place) -> Iterator[Path]:
    """Yield an empty directory, and move it into place when the block succeeds.

    Raises:
        ConfigError: Something cannot be written, e.g. because the disk is full; nothing is left
            behind, and what was at the place is still there. Or something else has turned up there:
            it stays, and the finished bundle is kept next to it.
    """
    target = place.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial, lock = _claim(target)
    except OSError as error:
        raise ConfigError(f"output: cannot write next to {target}: {error}") from error
    try:
        yield partial
        place.put(partial)
    except OSError as error:
        raise ConfigError(f"output: cannot write {target}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)


@dataclass(frozen=True)
class Leftovers:
    """What other exports have left next to a bundle's place.

    Attributes:
        removed: Left by exports that have ended.
        kept: Those of exports that may still be running.
    """

    removed: tuple[Path, ...]
    kept: tuple[Path, ...]


def remove_leftovers(target: Path) -> Leftovers:
    """Remove what killed exports to `target` left.

    These are this user's directories with the name that exports use and a lock that nobody holds,
    and what their process wrote next to them under the same name.
    """
    pattern = re.compile(rf"(\.{re.escape(target.name)}\.partial-\d+-\w{{8}})(\.\w{{8}})?")
    removed: list[Path] = []
    kept: list[Path] = []
    # In this order a directory comes before those named after it, which are not locked themselves.
    for path in sorted(target.parent.glob(f".{glob.escape(target.name)}.partial-*")):
        found = pattern.fullmatch(path.name)
        orphan = found and not (found[2] and path.with_name(found[1]).exists())
        (removed if orphan and _remove_unlocked(path) else kept).append(path)
    return Leftovers(tuple(removed), tuple(kept))


def _claim(target: Path) -> tuple[Path, int]:
    """Make a directory next to the target; return it and what holds its lock."""
    prefix = f".{target.name}.partial-{os.getpid()}-"
    while True:
        partial = make_directory(target.parent, prefix)
        # Until it is locked, another export may mistake it for a leftover.
        with suppress(FileNotFoundError):
            lock = os.open(partial, _DIRECTORY)
            if _lock(lock) is not False and partial.exists():
                return partial, lock
            os.close(lock)


def _remove_unlocked(path: Path) -> bool:
    """Remove a directory of this user if nobody holds its lock; return whether it is gone."""
    try:
        lock = os.open(path, _DIRECTORY)
    except OSError:
        return False
    try:
        if os.fstat(lock).st_uid == os.getuid() and _lock(lock):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
    return not path.exists()


def _lock(directory: int) -> bool | None:
    """Lock an open directory: False if another has it, None where files cannot be locked."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
