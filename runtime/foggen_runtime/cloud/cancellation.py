"""Ending a wait for the cloud from another thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from foggen_runtime.errors import CancelledError


class Cancellation:
    """Says, from any thread and for good, that an answer is no longer wanted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._end: Callable[[], object] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel, and end the wait if there is one."""
        with self._lock:
            self._cancelled = True
            if self._end is not None:
                self._end()

    def check(self) -> None:
        """Raise if the answer is no longer wanted.

        Raises:
            CancelledError: It was cancelled.
        """
        if self._cancelled:
            raise CancelledError("the answer is no longer wanted")

    @contextmanager
    def ends_by(self, end: Callable[[], object]) -> Iterator[None]:
        """While the block runs, have whoever cancels call `end`, which must not wait.

        Raises:
            CancelledError: It was cancelled before.
        """
        with self._lock:
            self.check()
            self._end = end
        try:
            yield
        finally:
            with self._lock:
                self._end = None
