"""Putting finished work in its place without ever losing anything else that is there.

Before the work begins we note what is at the place; only that may be replaced. If something else
has turned up there by the end, it stays, and the finished work is kept beside it under another
name.
"""

import errno
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from foggen_runtime.errors import ConfigError
from foggen_runtime.files import make_directory, stops_put_off

# What a rename raises if something is in the way.
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


@dataclass(frozen=True)
class Kind:
    """A kind of directory that is always written as a whole.

    Attributes:
        name: What messages call it, e.g. `bundle`.
        contents: Returns the names that belong in a directory of this kind (a subdirectory's name
            covers everything in it), or None if the directory is of another kind.
    """

    name: str
    contents: Callable[[Path], Collection[str] | None]

    def stranger(self, directory: Path) -> str | None:
        """Return the name of something in the directory that does not belong to it."""
        own = {Path(name) for name in self.contents(directory) or ()}
        for found in sorted(directory.rglob("*")):
            name = found.relative_to(directory)
            if own.isdisjoint((name, *name.parents)) and (found.is_symlink() or not found.is_dir()):
                return name.as_posix()
        return None

    def check_alone(self, directory: Path) -> None:
        """Check that removing the directory would lose nothing else.

        Raises:
            ConfigError: It holds something that does not belong to it.
        """
        if stranger := self.stranger(directory):
            raise ConfigError(
                f"output: {directory} holds {stranger}, which is not part of the {self.name} and "
                "would be lost; move it away, or choose another name"
            )


@dataclass(frozen=True)
class Place:
    """Where finished work goes, and what was there before the work began.

    Attributes:
        path: The place with links followed, so that a link stays a link.
        found: Identifies what was there and is to be replaced; None if nothing was.
        kind: The kind of directory that belongs there; None for a file.
        option: What messages call the place.
    """

    path: Path
    found: tuple[int, ...] | None
    kind: Kind | None = None
    option: str = "output"

    @classmethod
    def directory(cls, target: Path, kind: Kind, *, force: bool) -> Self:
        """Look at where a directory is to go.

        Raises:
            ConfigError: `target` is a file, a mount point, a directory with other things in it, or
                one of this kind and `force` is not given.
        """
        path = followed(target)
        if path.name in ("", ".."):
            raise ConfigError(f"output: must end in the name of the new {kind.name}, is {target}")
        if os.path.ismount(path):
            raise ConfigError(
                f"output: {target} is a mount point and cannot be replaced; name a directory in "
                f"it, e.g. {target / kind.name.replace(' ', '-')}"
            )
        try:
            if is_free(path):
                return cls(path, None, kind)
        except OSError as error:
            raise ConfigError(f"output: cannot look into {target}: {error.strerror}") from error
        if not path.is_dir():
            raise ConfigError(f"output: must be a directory, {target} is a file")
        if kind.contents(path) is None:
            raise ConfigError(
                f"output: {target} is not empty and is not a {kind.name}; choose another name"
            )
        if not force:
            raise ConfigError(f"output: {target} is a {kind.name} already; --force replaces it")
        kind.check_alone(path)
        return cls(path, _identity(path, kind), kind)

    @classmethod
    def file(cls, target: Path, *, force: bool, option: str = "output") -> Self:
        """Look at where a file is to go.

        Raises:
            ConfigError: `target` is not a file, or is one and `force` is not given.
        """
        path = followed(target)
        if not os.path.lexists(path):
            return cls(path, None, None, option)
        if not path.is_file():
            raise ConfigError(f"{option}: must be a file, {target} is not")
        if not force:
            raise ConfigError(f"{option}: {target} exists already; --force replaces it")
        return cls(path, _identity(path, None), None, option)

    def put(self, new: Path) -> None:
        """Move finished work here; raises as `put_all` does."""
        put_all([(self, new)])

    def set_aside(self, holder: Path, undo: ExitStack) -> None:
        """Move away what was found here.

        Raises:
            OSError: It cannot be moved, or is not what was found.
        """
        old = holder / self.path.name
        try:
            self.path.rename(old)
        except FileNotFoundError:
            return
        undo.callback(_move_back, old, self.path)
        changed = _identity(old, self.kind) != self.found
        if changed or (self.kind and self.kind.stranger(old)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path))


def put_all(work: Sequence[tuple[Place, Path | None]]) -> None:
    """Move finished work to its places, all of it or none; signals to stop wait until that is done.

    Args:
        work: Places, and what goes there; None just removes what was found.

    Raises:
        ConfigError: Something else is at a place by now, or nothing can be moved there. The work is
            kept beside the first place, and the message says where.
    """
    first, holder = work[0][0], None
    found = [place for place, _ in work if place.found]
    with stops_put_off(), ExitStack() as undo:
        try:
            if found:
                holder = _directory_beside(first.path, ".{}.replaced-")
                undo.callback(_remove_if_empty, holder)
                for place in found:
                    place.set_aside(holder, undo)
            for place, new in work:
                if new is not None:
                    move(new, place.path)
                    undo.callback(_move_back, place.path, new)
        except OSError as error:
            undo.close()
            raise _kept(work, error, holder) from error
        undo.pop_all()
    if holder:
        import shutil  # slow to import, and few commands write

        shutil.rmtree(holder, ignore_errors=True)


def followed(target: Path) -> Path:
    """Return where a link leads; anything else as it is."""
    return Path(os.path.realpath(target)) if os.path.islink(target) else target


def is_free(path: Path) -> bool:
    """Whether there is nothing at a place, or only an empty directory."""
    if not os.path.lexists(path):
        return True
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def move(new: Path, target: Path) -> None:
    """Rename a file or directory, and never lose what is at the target.

    Raises:
        OSError: Something is there, or it cannot be moved.
    """
    if new.is_dir():
        new.rename(target)  # replaces nothing but an empty directory (POSIX)
        return
    # Renaming a file silently replaces another, so the name is claimed first.
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    try:
        new.rename(target)
    except OSError:
        target.unlink()
        raise


def _identity(path: Path, kind: Kind | None) -> tuple[int, ...]:
    """Return what identifies a file or directory; for a file it changes with the content."""
    stat = path.lstat()
    if kind is not None:
        return stat.st_dev, stat.st_ino
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def _kept(
    work: Sequence[tuple[Place, Path | None]], error: OSError, holder: Path | None
) -> ConfigError:
    """Keep the work under another name, and say where it is."""
    first = work[0][0]
    kept = _directory_beside(first.path, "{}.finished-")
    for place, new in work:
        if new is not None:
            new.rename(kept / place.path.name)
    reason = error.strerror
    if error.errno in _TAKEN:
        reason = "something else has turned up there, and stays"
    message = f"{first.option}: cannot be put at {first.path}: {reason}; "
    if holder and holder.exists():
        message += f"what was there before is in {holder}, "
    return ConfigError(message + f"what was finished is kept in {kept}: move it where you want it")


def _directory_beside(place: Path, prefix: str) -> Path:
    return make_directory(place.parent, prefix.format(place.name))


def _move_back(source: Path, target: Path) -> None:
    """Undo a move; if something else has turned up meanwhile, `source` stays where it is."""
    with suppress(OSError):
        move(source, target)


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()
