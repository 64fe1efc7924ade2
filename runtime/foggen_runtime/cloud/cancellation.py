"""Ending a wait for the cloud from another thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from foggen_runtime.errors import CancelledError


class Cancellation:
    """Says, from any thread and once for all, that an answer is no longer wanted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._end: Callable[[], object] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether it was said."""
        return self._cancelled

    def cancel(self) -> None:
        """Say so, and end what is waited for, if anything is."""
        with self._lock:
            self._cancelled = True
            if self._end is not None:
                self._end()

    def check(self) -> None:
        """Raise if nothing is wanted any more.

        Raises:
            CancelledError: It is not.
        """
        if self._cancelled:
            raise CancelledError("the answer is no longer wanted")

    @contextmanager
    def ends_by(self, end: Callable[[], object]) -> Iterator[None]:
        """Have `end` called by whoever cancels while the block lasts; it must not wait.

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
