"""Writing a bundle so that it appears whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foggen_runtime.errors import ConfigError
from foggen_runtime.manifest import MANIFEST_FILE


def check_target(target: Path, *, force: bool) -> None:
    """Refuse to write where something else would be lost.

    Raises:
        ConfigError: `target` is a file, a directory with other things in it, or a bundle and
            `force` is not given.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise ConfigError(f"output: must be a directory, {target} is a file")
    if (target / MANIFEST_FILE).exists():
        if not force:
            raise ConfigError(f"output: {target} is a bundle already; --force replaces it")
    elif any(target.iterdir()):
        raise ConfigError(f"output: {target} is not empty and no bundle; choose another name")


@contextmanager
def bundle_directory(target: Path) -> Iterator[Path]:
    """Give an empty directory that takes the place of `target` when the block ends well.

    Raises:
        ConfigError: Something cannot be written, e.g. for want of space; nothing is left behind
            and what was at `target` is still there.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.partial-"))
    except OSError as error:
        raise ConfigError(f"output: cannot write beside {target}: {error}") from error
    try:
        yield partial
        partial.chmod(0o755)
        _swap(partial, target)
    except OSError as error:
        raise ConfigError(f"output: cannot write {target}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(new: Path, target: Path) -> None:
    if not target.exists():
        new.rename(target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.replaced-"))
    target.rename(old / "bundle")
    new.rename(target)
    shutil.rmtree(old)
