"""Keeping the log small: what outsiders can trigger at will is logged once a minute."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

_PERIOD = 60.0  # seconds
_KINDS = 256  # of messages that are remembered
_LOGGERS = (
    "asyncio",
    "uvicorn.error",
    "foggen_runtime.serving.connections",
    "foggen_runtime.serving.listening",
)


class Repeats(logging.Filter):
    """Lets a message pass once in a while, and says how often it was left out before."""

    def __init__(self) -> None:
        super().__init__()
        # For each message: when it last passed, and how often it has been left out since.
        self._passed: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record."""
        # asyncio appends lines about the objects at fault.
        kind = (record.name, str(record.msg).partition("\n")[0])
        now = time.monotonic()
        at, left_out = self._passed.get(kind, (-_PERIOD, 0))
        if now - at < _PERIOD:
            self._passed[kind] = (at, left_out + 1)
            return False
        if left_out:
            record.msg = f"{record.getMessage()} (and {left_out} times before)"
            record.args = None
        if len(self._passed) >= _KINDS:
            self._passed.clear()
        self._passed[kind] = (now, 0)
        return True


@contextmanager
def few_repeats() -> Iterator[None]:
    """While the block runs, limit the loggers that clients can make write."""
    repeats = Repeats()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(repeats)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(repeats)
