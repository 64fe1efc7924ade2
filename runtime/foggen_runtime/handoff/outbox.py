"""Questions that wait for the cloud, in a file that survives kill -9, power cuts and full disks.

An entry is accepted once `accept` has returned, and answered once `answer` has. An entry may be
delivered twice (after a crash, or when a lease runs out): deliveries carry its id as idempotency
key, and only the first answer is stored.
"""

import json
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from foggen_runtime.errors import ConfigError, OutboxFullError, StateError
from foggen_runtime.handoff.database import Database, Layout
from foggen_runtime.handoff.policy import OutboxLimits
from foggen_runtime.jsonio import dumps, from_json
from foggen_runtime.result import Result

MAX_WAIT = 3600.0  # seconds from one attempt to the next
MAX_LEASE = 86_400.0  # seconds

State = Literal["accepted", "answered"]

_LAYOUT = Layout(
    application_id=0x4667_4F42,  # "FgOB"
    version=1,
    script="""
        CREATE TABLE entries (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            bytes INTEGER NOT NULL,
            accepted_at REAL NOT NULL,
            answered_at REAL,
            attempts INTEGER NOT NULL DEFAULT 0,
            not_before REAL NOT NULL DEFAULT 0,
            leased_until REAL NOT NULL DEFAULT 0,
            lease TEXT,
            last_reason TEXT,
            question TEXT NOT NULL,
            result TEXT NOT NULL
        );
        CREATE INDEX pending ON entries (seq) WHERE answered_at IS NULL;
        CREATE INDEX sizes ON entries (bytes)
    """,
)
_COLUMNS = "seq, id, accepted_at, answered_at, attempts, not_before, lease, last_reason, question"


@dataclass(frozen=True)
class Entry:
    """A question in the outbox.

    Attributes:
        seq: Its number, in the order in which entries were accepted.
        id: The idempotency key, and the result's id.
        accepted_at: Seconds since 1970.
        answered_at: Likewise; None while it is waiting.
        attempts: How many deliveries failed.
        not_before: When to try again, in seconds since 1970.
        lease: Identifies the flusher that is delivering it.
        last_reason: Why the last delivery failed.
        question: What is sent, without the policy's `cloud_prompt`.
        result: The question's result: `queued` at first, later the cloud's.
    """

    seq: int
    id: str
    accepted_at: float
    answered_at: float | None
    attempts: int
    not_before: float
    lease: str | None
    last_reason: str | None
    question: str
    result: Result

    @property
    def state(self) -> State:
        """Whether it has an answer."""
        return "accepted" if self.answered_at is None else "answered"

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as plain JSON values."""
        return {
            "id": self.id,
            "state": self.state,
            "accepted_at": _iso(self.accepted_at),
            "answered_at": None if self.answered_at is None else _iso(self.answered_at),
            "attempts": self.attempts,
            "not_before": _iso(self.not_before) if self.not_before else None,
            "last_reason": self.last_reason,
            "question": self.question,
            "result": self.result.to_dict(),
        }


@dataclass(frozen=True)
class Counts:
    """How many entries there are, and their total bytes."""

    accepted: int
    answered: int
    bytes: int


class Outbox:
    """The entries of one file; several processes may use it at once. A context manager."""

    def __init__(self, limits: OutboxLimits, clock: Callable[[], float] = time.time) -> None:
        """Open the file, or create it.

        Args:
            limits: With a file.
            clock: Seconds since 1970. It may jump, as on a board without a battery: even then, no
                lease and no wait lasts longer than its limit by the new time.

        Raises:
            ConfigError: No file is set.
            StateError: The file cannot be used.
        """
        if limits.file is None:
            raise ConfigError("outbox.file: must be set to queue questions, is not")
        self._limits = limits
        self._clock = clock
        self._database = Database(limits.file, _LAYOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def accept(self, question: str, result: Result) -> None:
        """Accept a question; when this returns, it is on disk.

        Args:
            question: What will be sent, redacted.
            result: Its result so far; its id becomes the entry's.

        Raises:
            OutboxFullError: There is no room within the limits; nothing was changed.
            StateError: The file cannot be written; nothing was changed.
        """
        document = dumps(result.to_dict())
        size = len(question.encode()) + len(document.encode())
        with self._database.transaction() as connection:
            row = connection.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM entries")
            entries, used = row.fetchone()
            for name, wanted, limit in (
                ("max_entries", entries + 1, self._limits.max_entries),
                ("max_bytes", used + size, self._limits.max_bytes),
            ):
                if wanted > limit:
                    raise OutboxFullError(
                        f"outbox.{name}: must be at most {limit}, would be {wanted}; run foggen "
                        "outbox purge or flush"
                    )
            connection.execute(
                "INSERT INTO entries (id, bytes, accepted_at, question, result, last_reason)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (result.id, size, self._clock(), question, document, result.reason),
            )

    def claim(self, after: int, lease_seconds: float, *, waiting: bool = False) -> Entry | None:
        """Lease the next entry to deliver, so that no other flusher takes it.

        Args:
            after: Take only entries with a larger `seq`; 0 for any.
            lease_seconds: When the lease ends by itself, in case this process dies.
            waiting: Whether to take entries whose next attempt is not due yet.
        """
        now = self._clock()
        lease = uuid.uuid4().hex
        with self._database.transaction() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS}, result FROM entries"
                " WHERE answered_at IS NULL AND seq > :after"
                " AND NOT (leased_until > :now AND leased_until <= :now + :max_lease)"
                " AND (:waiting OR NOT (not_before > :now AND not_before <= :now + :max_wait))"
                " ORDER BY seq LIMIT 1",
                {
                    "after": after,
                    "now": now,
                    "waiting": waiting,
                    "max_lease": MAX_LEASE,
                    "max_wait": MAX_WAIT,
                },
            ).fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE entries SET lease = ?, leased_until = ? WHERE seq = ?",
                (lease, now + min(lease_seconds, MAX_LEASE), row[0]),
            )
        return replace(_entry(row), lease=lease)

    def answer(self, entry: Entry, result: Result) -> bool:
        """Store the answer, and return whether it is the first one."""
        document = dumps(result.to_dict())
        size = len(entry.question.encode()) + len(document.encode())
        with self._database.transaction() as connection:
            done = connection.execute(
                "UPDATE entries SET answered_at = ?, result = ?, bytes = ?, lease = NULL,"
                " leased_until = 0, last_reason = NULL WHERE seq = ? AND answered_at IS NULL",
                (self._clock(), document, size, entry.seq),
            )
            return done.rowcount == 1

    def put_back(self, entry: Entry, reason: str, wait: float, *, attempted: bool = True) -> None:
        """End this flusher's lease on an entry that got no answer.

        Args:
            entry: As claimed.
            reason: Why it got none.
            wait: Seconds to the next attempt, at most `MAX_WAIT`.
            attempted: Whether a delivery was attempted.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE entries SET lease = NULL, leased_until = 0, last_reason = ?,"
                " attempts = attempts + ?, not_before = ? WHERE seq = ? AND lease = ?",
                (reason, attempted, self._due(wait), entry.seq, entry.lease),
            )

    def entries(self, state: State | None = None) -> Sequence[Entry]:
        """Return the entries in order, all or those in one state."""
        condition = {
            None: "",
            "accepted": " WHERE answered_at IS NULL",
            "answered": " WHERE answered_at IS NOT NULL",
        }[state]
        with self._database.transaction() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS}, result FROM entries{condition} ORDER BY seq"
            ).fetchall()
        return [_entry(row) for row in rows]

    def get(self, id_: str) -> Entry | None:
        """Return the entry with this id, or with the only id that begins with it."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS}, result FROM entries WHERE substr(id, 1, ?) = ? LIMIT 2",
                (len(id_), id_),
            ).fetchall()
        return _entry(rows[0]) if id_ and len(rows) == 1 else None

    def counts(self) -> Counts:
        """Count the entries."""
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT count(*), count(answered_at), coalesce(sum(bytes), 0) FROM entries"
            )
            entries, answered, size = row.fetchone()
        return Counts(entries - answered, answered, size)

    def purge(self, *, older_than: float = 0.0, accepted: bool = False) -> int:
        """Delete answered entries, and return how many.

        Args:
            older_than: Only entries answered (or accepted) at least this many seconds ago.
            accepted: Also delete those that wait for an answer: their questions are lost.
        """
        before = self._clock() - older_than
        with self._database.transaction() as connection:
            done = connection.execute(
                "DELETE FROM entries WHERE coalesce(answered_at, accepted_at) <= ?"
                " AND (answered_at IS NOT NULL OR ?)",
                (before, accepted),
            )
        # Until then the deleted text is still in the log of writes.
        self._database.checkpoint()
        return done.rowcount

    def _due(self, wait: float) -> float:
        return self._clock() + min(wait, MAX_WAIT) if wait > 0 else 0.0


def _entry(row: Sequence[Any]) -> Entry:
    fields = dict(zip(_COLUMNS.split(", "), row, strict=False))
    try:
        result = from_json(Result, json.loads(row[-1]), "result")
    except ValueError as error:
        raise StateError(f"outbox: entry {fields['id']}: {error}") from error
    return Entry(**fields, result=result)


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
