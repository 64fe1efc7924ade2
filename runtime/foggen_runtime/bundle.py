"""A bundle on disk: its manifest, and files that are what the manifest says."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from foggen_runtime.errors import BundleError
from foggen_runtime.files import sha256_file, write_text_atomically
from foggen_runtime.manifest import Manifest

# Says that the hashes were right when the files had these sizes and times, so that only the
# first use of a bundle reads every byte of it.
_VERIFIED_FILE = ".verified.json"


@dataclass(frozen=True)
class Bundle:
    """An exported model that was checked.

    Attributes:
        directory: Where it lies.
        manifest: Its `foggen.json`.
    """

    directory: Path
    manifest: Manifest

    @classmethod
    def open(cls, directory: Path, *, verify: bool = False, unused: str | None = None) -> Self:
        """Read the manifest and check every file's size, and on first use its hash.

        Args:
            directory: The bundle.
            verify: Hash all files, whether or not they were verified before.
            unused: A file that is not going to be read, and may be missing or altered.

        Raises:
            BundleError: It is no bundle, or a file is missing or not the one exported.
        """
        manifest = Manifest.load(directory)
        checked = {name: info for name, info in manifest.files.items() if name != unused}
        bundle = cls(directory, replace(manifest, files=checked))
        bundle._check_sizes()
        state = bundle._state()
        if verify or not bundle._was_verified(state):
            bundle._check_hashes()
            bundle._remember(state)
        return cls(directory, manifest)

    def path(self, name: str) -> Path:
        """Return where one of the bundle's files lies."""
        return self.directory / name

    def _check_sizes(self) -> None:
        for name, info in self.manifest.files.items():
            try:
                size = self.path(name).stat().st_size
            except OSError as error:
                raise BundleError(f"{self.path(name)}: cannot be read: {error}") from error
            if size != info.bytes:
                raise BundleError(f"{self.path(name)}: must have {info.bytes} bytes, has {size}")

    def _check_hashes(self) -> None:
        for name, info in self.manifest.files.items():
            digest = sha256_file(self.path(name))
            if digest != info.sha256:
                raise BundleError(
                    f"{self.path(name)}: SHA-256 must be {info.sha256}, is {digest}; "
                    "the file was altered: export or download the bundle again"
                )

    def _state(self) -> dict[str, object]:
        files = {}
        for name in self.manifest.files:
            stat = self.path(name).stat()
            files[name] = [stat.st_size, stat.st_mtime_ns]
        return {"bundle_sha256": self.manifest.sha256, "files": files}

    def _was_verified(self, state: dict[str, object]) -> bool:
        try:
            recorded = json.loads(self.path(_VERIFIED_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(recorded == state)

    def _remember(self, state: dict[str, object]) -> None:
        """Note the verification; in a read-only directory each use verifies again."""
        try:
            write_text_atomically(self.path(_VERIFIED_FILE), json.dumps(state))
        except OSError:
            return
