"""Files on disk, checked against a list of sizes and hashes."""

import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from foggen_runtime.bundle import verified
from foggen_runtime.bundle.manifest import GRAPH_SUFFIX, FileInfo
from foggen_runtime.errors import BundleError
from foggen_runtime.files import lies_inside, open_regular, sha256_stream

# Notes that earlier versions left in the directory itself; nothing reads them any more.
VERIFIED_FILE = ".verified.json"


@dataclass(frozen=True)
class CheckedFiles:
    """Files of one directory.

    Attributes:
        directory: Where they lie.
        files: Their sizes and hashes.
        kind: What the list is of, `bundle` or `prepared`: notes on the two are kept apart.
        sha256: Hash of the list they are in.
        remedy: What to do about an altered file, worded for a message.
    """

    directory: Path
    files: Mapping[str, FileInfo]
    kind: str
    sha256: str
    remedy: str

    def check(self, *, verify: bool) -> None:
        """Check every file's size, and its hash unless there is a note that it was right.

        Args:
            verify: Hash all files, even if that was done before.

        Raises:
            BundleError: A file is missing, is not the one in the list, is not a regular file or
                lies outside the directory, or an ONNX model among them reads a file that is not
                listed.
        """
        state = self._state()
        if verify or not verified.is_noted(state):
            self.check_hashes()
            verified.note(state)

    def check_hashes(self) -> None:
        """Read every file, noted or not.

        Raises:
            BundleError: As `check`.
        """
        for name, info in self.files.items():
            with self._opened(name) as file:
                digest = sha256_stream(file)
                if digest != info.sha256:
                    raise BundleError(
                        f"{self.directory / name}: SHA-256 must be {info.sha256}, is {digest}; "
                        f"the file was altered: {self.remedy}"
                    )
                if name.endswith(GRAPH_SUFFIX):
                    self._check_graph(name, file)

    def are_noted(self) -> bool:
        """Whether there is a note that the files are right as they are now.

        Raises:
            BundleError: A file is missing, has another size, is not a regular file, or lies
                outside.
        """
        return verified.is_noted(self._state())

    def note(self) -> None:
        """Note that the files are right: the caller has written or hashed them."""
        verified.note(self._state())

    def _state(self) -> dict[str, object]:
        """Check the sizes, and return what identifies these very files."""
        files = {name: self._file_state(name, info) for name, info in self.files.items()}
        return {"kind": self.kind, "sha256": self.sha256, "files": files}

    def _file_state(self, name: str, info: FileInfo) -> list[int]:
        path = self.directory / name
        try:
            found, inside = path.stat(), lies_inside(path, self.directory)
        except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
            raise BundleError(f"{path}: cannot be read: {error}; {self.remedy}") from error
        if not inside:
            raise BundleError(
                f"{path}: must lie inside {self.directory}, is a link that leads out of it; put "
                "the file itself there"
            )
        if not stat.S_ISREG(found.st_mode):
            raise BundleError(f"{path}: must be a regular file, is not; {self.remedy}")
        if found.st_size != info.bytes:
            raise BundleError(
                f"{path}: must have {info.bytes} bytes, has {found.st_size}; {self.remedy}"
            )
        return verified.file_state(found)

    @contextmanager
    def _opened(self, name: str) -> Iterator[BinaryIO]:
        try:
            with open_regular(self.directory / name) as file:
                yield file
        except OSError as error:
            raise BundleError(
                f"{self.directory / name}: cannot be read: {error}; {self.remedy}"
            ) from error

    def _check_graph(self, name: str, file: BinaryIO) -> None:
        from foggen_runtime.bundle.external_data import unlisted_locations

        path = self.directory / name
        try:
            unlisted = unlisted_locations(file, name, self.files)
        except ValueError as error:
            raise BundleError(f"{path}: cannot be read as an ONNX model: {error}") from error
        if unlisted:
            raise BundleError(
                f"{path}: must read only files that are listed with their hashes, reads "
                f"{unlisted[0]!r}; {self.remedy}"
            )
