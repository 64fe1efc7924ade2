"""A SQLite file that survives crashes and power cuts with everything that was committed."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from foggen_runtime.errors import StateError
from foggen_runtime.handoff.private_files import make_private

_BUSY_SECONDS = 30.0  # how long another process may hold the file
# Empty the write-ahead log at this many pages, about 250 kB: SQLite's default of 1000 pages would
# take much of a small disk for little data.
_LOG_PAGES = 64


@dataclass(frozen=True)
class Layout:
    """What a file holds.

    Attributes:
        application_id: The kind of file, as SQLite's 32-bit mark.
        version: Version of the tables.
        script: Creates them.
    """

    application_id: int
    version: int
    script: str


class Database:
    """One connection, used by one thread at a time; other processes may use the file as well."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """Open a file, or create it, and keep it for its owner's eyes only.

        Raises:
            StateError: It cannot be opened, is of another kind or of a newer version; or others may
                read it, and this user may not change that.
        """
        self.path = path
        self._lock = threading.RLock()
        try:
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise StateError(f"{path}: cannot be opened: {error}") from error
        try:
            self._set_up(layout)
            self._make_private()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection; the work is committed at the end, or undone on an error.

        Raises:
            StateError: The file cannot be read or written, e.g. because the disk is full.
        """
        with self._lock, self._guarded():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # On a full disk, SQLite may already have rolled back.
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def checkpoint(self) -> None:
        """Move the write-ahead log's content into the file itself, as far as readers allow."""
        with self._lock, self._guarded():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: {error}") from error

    def _make_private(self) -> None:
        """Keep others out of the file, which is ours, and of those that SQLite keeps next to it."""
        try:
            for ending in ("", "-wal", "-shm"):
                make_private(self.path.with_name(self.path.name + ending))
        except OSError as error:
            raise StateError(f"{self.path}: cannot be used: {error.strerror}") from error

    def _set_up(self, layout: Layout) -> None:
        with self._guarded():
            (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StateError(
                    f"{self.path}: journal_mode must be wal, is {mode}; put the file on a local "
                    "file system"
                )
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA secure_delete = ON")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
        with self.transaction() as connection:
            (kind,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables == 0:
                for statement in layout.script.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {layout.application_id}")
                connection.execute(f"PRAGMA user_version = {layout.version}")
            elif kind != layout.application_id:
                raise StateError(
                    f"{self.path}: application_id must be {layout.application_id:#x}, is {kind:#x}:"
                    " a file of another kind"
                )
            elif version != layout.version:
                raise StateError(f"{self.path}: version must be {layout.version}, is {version}")
