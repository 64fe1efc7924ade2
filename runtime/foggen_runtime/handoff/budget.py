"""How much of the cloud was used today: kept across restarts, shared between processes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from foggen_runtime.errors import ConfigError, HandoffError
from foggen_runtime.handoff.database import Database, Layout
from foggen_runtime.handoff.policy import Budget

_LAYOUT = Layout(
    application_id=0x46674247,  # "FgBG"
    version=1,
    script="""
        CREATE TABLE days (
            day TEXT PRIMARY KEY,
            calls INTEGER NOT NULL DEFAULT 0,
            tokens INTEGER NOT NULL DEFAULT 0
        )
    """,
)


@dataclass(frozen=True)
class Spent:
    """What was used on one day, which begins at midnight UTC."""

    day: str
    calls: int
    tokens: int


class DailyBudget:
    """Counts calls and tokens against a day's limits."""

    def __init__(self, limits: Budget, clock: Callable[[], float] = time.time) -> None:
        """Open the budget's file.

        Args:
            limits: Must name a file.
            clock: Seconds since 1970.

        Raises:
            ConfigError: No file is set.
            StateError: The file cannot be used.
        """
        if limits.file is None:
            raise ConfigError("budget.file: must be set if calls or tokens are limited, is not")
        self._limits = limits
        self._clock = clock
        self._database = Database(limits.file, _LAYOUT)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def reserve(self) -> str:
        """Count a call before it is made, and return the day it is counted for.

        Raises:
            HandoffError: The day's calls or tokens are used up (reason `budget`).
            StateError: The file cannot be written.
        """
        day = self._today()
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO days (day) VALUES (?)", (day,))
            row = connection.execute("SELECT calls, tokens FROM days WHERE day = ?", (day,))
            calls, tokens = row.fetchone()
            for name, used, limit in (
                ("calls", calls, self._limits.calls),
                ("tokens", tokens, self._limits.tokens),
            ):
                if limit is not None and used >= limit:
                    raise HandoffError(
                        "budget", f"budget.{name}: {used} of {limit} are used up on {day} (UTC)"
                    )
            connection.execute("UPDATE days SET calls = calls + 1 WHERE day = ?", (day,))
        return day

    def refund(self, day: str) -> None:
        """Take back a reserved call that never left the device."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE days SET calls = calls - 1 WHERE day = ?", (day,))

    def spend(self, day: str, tokens: int) -> None:
        """Count the tokens of a call."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE days SET tokens = tokens + ? WHERE day = ?", (tokens, day))

    def spent(self) -> Spent:
        """Return what was used today."""
        day = self._today()
        with self._database.transaction() as connection:
            row = connection.execute("SELECT calls, tokens FROM days WHERE day = ?", (day,))
            calls, tokens = row.fetchone() or (0, 0)
        return Spent(day, calls, tokens)

    def _today(self) -> str:
        return time.strftime("%Y-%m-%d", time.gmtime(self._clock()))
