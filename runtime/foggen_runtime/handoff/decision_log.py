"""A log of decisions, one JSON object per line: provenance, and content only if asked for.

Without content, a record holds nothing derived from the text of question or answer but token counts
and times. There is not even a hash of the question: with a list of likely questions, one could find
out which was asked.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foggen_runtime.errors import ConfigError, StateError
from foggen_runtime.handoff.policy import LogSettings
from foggen_runtime.handoff.private_files import make_private, open_private
from foggen_runtime.jsonio import dumps
from foggen_runtime.result import Result

RECORD_VERSION = 1

_CONTENT = ("answer", "choice", "detail")


class DecisionLog:
    """Appends records to a file; several processes may write to it."""

    def __init__(self, settings: LogSettings, clock: Callable[[], float] = time.time) -> None:
        """Open the log.

        Args:
            settings: Must name a file.
            clock: Seconds since 1970.

        Raises:
            ConfigError: No file is set.
            StateError: The file cannot be written.
        """
        if settings.file is None:
            raise ConfigError("decision_log.file: must be set to log decisions, is not")
        self._path = settings.file
        self._settings = settings
        self._clock = clock
        with self._locked():
            os.close(self._open())
            for older in self._rotated:
                make_private(older)

    def write(self, question: str, result: Result) -> None:
        """Append one record.

        Raises:
            StateError: The file cannot be written; what it held before is unharmed.
        """
        line = dumps(self._record(question, result)).encode() + b"\n"
        with self._locked():
            size = self._path.stat().st_size if self._path.exists() else 0
            if size and size + len(line) > self._settings.max_bytes:
                self._rotate()
            file = self._open()
            try:
                _append(file, line)
            finally:
                os.close(file)

    def _record(self, question: str, result: Result) -> dict[str, Any]:
        document = result.to_dict()
        content = {name: document.pop(name) for name in _CONTENT}
        record = {
            "record_version": RECORD_VERSION,
            "id": document.pop("id"),
            "time": _iso(self._clock()),
            **document,
        }
        return {**record, "question": question, **content} if self._settings.content else record

    def _rotate(self) -> None:
        """Rename the full file to `.1`, the one before it to `.2`, and so on."""
        names = [self._path, *self._rotated]
        names[-1].unlink(missing_ok=True)
        for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
            if newer.exists():
                make_private(newer)
                newer.replace(older)

    @property
    def _rotated(self) -> list[Path]:
        """The full files' names, the newest first."""
        return [self._beside(f".{number}") for number in range(1, self._settings.max_files)]

    def _open(self) -> int:
        return open_private(self._path, os.O_RDWR | os.O_APPEND)

    def _beside(self, ending: str) -> Path:
        return self._path.with_name(self._path.name + ending)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing, with a separate lock file, as the log gets renamed."""
        try:
            lock = open_private(self._beside(".lock"), os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)
        except OSError as error:
            raise StateError(f"{self._path}: cannot be written: {error.strerror}") from error


def _append(file: int, line: bytes) -> None:
    """Write a whole line at the end of a file, or nothing."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        # What a power cut left of a record becomes a separate line.
        line = b"\n" + line
    try:
        rest = line
        while rest:
            rest = rest[os.write(file, rest) :]
    except OSError:
        os.ftruncate(file, size)
        raise


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
