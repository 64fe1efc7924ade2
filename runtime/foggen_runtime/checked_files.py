"""Files on disk that are what a list of sizes and hashes says."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foggen_runtime.errors import BundleError
from foggen_runtime.files import sha256_file, write_text_atomically
from foggen_runtime.jsonio import parse_json
from foggen_runtime.manifest import FileInfo

# Says that the hashes were right when the files had these sizes and times, so that only the
# first use reads every byte of them.
VERIFIED_FILE = ".verified.json"


@dataclass(frozen=True)
class CheckedFiles:
    """Files of one directory.

    Attributes:
        directory: Where they lie.
        files: Their sizes and hashes.
        sha256: Of the list they are in.
        remedy: What to do about an altered file, as a message says it.
    """

    directory: Path
    files: Mapping[str, FileInfo]
    sha256: str
    remedy: str

    def check(self, *, verify: bool) -> None:
        """Check every file's size, and its hash unless it was right before.

        Args:
            verify: Hash all files, whether or not they were verified before.

        Raises:
            BundleError: A file is missing, or not the one in the list.
        """
        self._check_sizes()
        if verify or not self._was_verified():
            state = self._state()
            self._check_hashes()
            self._remember(state)

    def remember(self) -> None:
        """Note that the files were just hashed."""
        self._remember(self._state())

    def _check_sizes(self) -> None:
        for name, info in self.files.items():
            path = self.directory / name
            try:
                size = path.stat().st_size
            except OSError as error:
                raise BundleError(f"{path}: cannot be read: {error}") from error
            if size != info.bytes:
                raise BundleError(
                    f"{path}: must have {info.bytes} bytes, has {size}; {self.remedy}"
                )

    def _check_hashes(self) -> None:
        for name, info in self.files.items():
            digest = sha256_file(self.directory / name)
            if digest != info.sha256:
                raise BundleError(
                    f"{self.directory / name}: SHA-256 must be {info.sha256}, is {digest}; "
                    f"the file was altered: {self.remedy}"
                )

    def _state(self) -> dict[str, object]:
        files = {}
        for name in self.files:
            stat = (self.directory / name).stat()
            files[name] = [stat.st_size, stat.st_mtime_ns]
        return {"bundle_sha256": self.sha256, "files": files}

    def _was_verified(self) -> bool:
        try:
            recorded = parse_json((self.directory / VERIFIED_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(recorded == self._state())

    def _remember(self, state: dict[str, object]) -> None:
        """Note the verification; in a read-only directory each use verifies again."""
        try:
            write_text_atomically(self.directory / VERIFIED_FILE, json.dumps(state))
        except OSError:
            return
