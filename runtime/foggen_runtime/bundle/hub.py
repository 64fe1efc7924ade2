"""Finding a bundle: a directory, or a repository of a Hugging Face hub."""

import re
from pathlib import Path

from foggen_runtime.bundle.manifest import MANIFEST_FILE
from foggen_runtime.errors import BundleError

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def locate_bundle(name: str | Path, revision: str | None = None) -> Path:
    """Return the directory of a bundle, downloading a published one into the hub's cache.

    Args:
        name: A directory, or a hub id such as `org/name`.
        revision: Branch, tag or commit of a hub repository.

    Raises:
        BundleError: There is no such directory or repository, or it cannot be downloaded.
    """
    directory = Path(name)
    if directory.is_dir():
        return directory
    if isinstance(name, Path) or not _HUB_ID.fullmatch(name):
        raise BundleError(f"bundle: must be a directory or a hub id (org/name), is {str(name)!r}")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise BundleError(
            f"{name}: no such directory; to get it from the hub, pip install huggingface_hub"
        ) from None
    try:
        path = Path(snapshot_download(name, revision=revision))
    except (OSError, ValueError) as error:
        raise BundleError(f"{name}: cannot be downloaded from the hub: {error}") from error
    if not (path / MANIFEST_FILE).exists():
        raise BundleError(f"{name}: is not a bundle, it has no {MANIFEST_FILE}")
    return path
