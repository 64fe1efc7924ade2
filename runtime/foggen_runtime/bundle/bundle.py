"""A bundle on disk: its manifest, and the files checked against it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from foggen_runtime.bundle.checked_files import VERIFIED_FILE, CheckedFiles
from foggen_runtime.bundle.manifest import (
    DEVICE_PROFILE_FILE,
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    Manifest,
)
from foggen_runtime.files import check_utf8, read_small_text
from foggen_runtime.jsonio import parse_json
from foggen_runtime.placing import Kind


@dataclass(frozen=True)
class Bundle:
    """An exported model whose files were checked.

    Attributes:
        directory: Where it lies.
        manifest: Its `foggen.json`.
    """

    directory: Path
    manifest: Manifest

    @classmethod
    def open(cls, directory: Path, *, verify: bool = False, with_snapshot: bool = True) -> Self:
        """Read the manifest; check every file's size and, on first use, its hash.

        Args:
            directory: The bundle.
            verify: Hash all files, even if they were verified before.
            with_snapshot: Whether the prefix snapshot will be read; if not, it may be missing or
                altered.

        Raises:
            BundleError: It is not a bundle, or a file is missing or not the one exported.
            ConfigError: The directory's path is not UTF-8.
        """
        check_utf8("bundle", directory)
        manifest = Manifest.load(directory)
        files = dict(manifest.files)
        if manifest.prefix_snapshot and not with_snapshot:
            del files[manifest.prefix_snapshot.file]
        remedy = "export or download the bundle again"
        CheckedFiles(directory, files, "bundle", manifest.sha256, remedy).check(verify=verify)
        return cls(directory, manifest)

    def path(self, name: str) -> Path:
        """Return where one of the bundle's files lies."""
        return self.directory / name


def _contents(directory: Path) -> set[str] | None:
    """Return what belongs to a bundle, whichever version wrote it; None if it is not a bundle."""
    try:
        document = parse_json(read_small_text(directory / MANIFEST_FILE, MAX_MANIFEST_BYTES))
    except (OSError, ValueError):
        return None
    files = document.get("files") if isinstance(document, dict) else None
    if not isinstance(files, dict):
        return None
    return {MANIFEST_FILE, DEVICE_PROFILE_FILE, VERIFIED_FILE, *files}


BUNDLE = Kind("bundle", _contents)
