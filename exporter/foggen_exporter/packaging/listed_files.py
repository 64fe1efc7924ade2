"""Files that are checked against a list while they are copied."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import MANIFEST_FILE, FileInfo
from foggen_runtime.errors import ConfigError
from foggen_runtime.files import open_regular


@dataclass(frozen=True)
class ListedFile:
    """A file on disk, and its size and hash according to a list."""

    path: Path
    info: FileInfo

    def open(self) -> BinaryIO:
        """Open it for reading; the last read fails if the file is not the one listed.

        Raises:
            OSError: It cannot be read.
        """
        return io.BufferedReader(_CheckedReader(self))  # type: ignore[type-var]


def bundle_contents(bundle: Bundle) -> dict[str, bytes | ListedFile]:
    """Return what makes up a bundle, in order of its names.

    The manifest is the one read when the bundle was opened: calibrating rewrites the file, and
    halves of two manifests would be useless.
    """
    files = bundle.manifest.files
    contents: dict[str, bytes | ListedFile] = {
        name: ListedFile(bundle.path(name), info) for name, info in files.items()
    }
    contents[MANIFEST_FILE] = bundle.manifest.to_text().encode()
    return dict(sorted(contents.items()))


class _CheckedReader(io.RawIOBase):
    """Reads a listed file, and hashes what is read.

    Raises:
        ConfigError: At the last byte, or if it is missing: the file is not the one listed.
    """

    def __init__(self, listed: ListedFile) -> None:
        self._listed = listed
        self._left = listed.info.bytes
        self._digest = hashlib.sha256()
        self._file = open_regular(listed.path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        if not self._left:
            return 0
        count = self._file.readinto(memoryview(buffer)[: self._left])  # type: ignore[attr-defined]
        self._digest.update(memoryview(buffer)[:count])
        self._left -= count
        whole = not self._left and self._digest.hexdigest() == self._listed.info.sha256
        if not count or not (self._left or whole):
            raise ConfigError(
                f"bundle: {self._listed.path} was changed while it was being packaged; package "
                "it again"
            )
        return int(count)

    def close(self) -> None:
        self._file.close()
        super().close()
