"""Delivering what waits in the outbox every so often, in a long-running process."""

import logging
import threading
from typing import Self

from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.handoff.flushing import FlushOptions, flush
from foggen_runtime.handoff.outbox import MAX_WAIT, Outbox
from foggen_runtime.handoff.sending import Handoff

_LOG = logging.getLogger(__name__)


class PeriodicFlusher:
    """Flushes in a thread of its own while a block runs, one flush at a time.

    The end of the block also ends a running flush; its entry is put back.
    """

    def __init__(
        self, outbox: Outbox, handoff: Handoff, seconds: float, lease_seconds: float
    ) -> None:
        """Start nothing yet.

        Args:
            outbox: Where questions wait.
            handoff: Sends them, within the policy.
            seconds: From one flush to the next.
            lease_seconds: How long a delivery may take.
        """
        self._outbox = outbox
        self._handoff = handoff
        self._seconds = seconds
        self._cancellation = Cancellation()
        self._options = FlushOptions(lease_seconds=lease_seconds, cancellation=self._cancellation)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="foggen-flush", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._cancellation.cancel()
        self._thread.join()

    def _work(self) -> None:
        seconds = self._seconds
        while not self._ended.wait(seconds):
            seconds = max(self._seconds, self._flush())

    def _flush(self) -> float:
        """Flush if anything waits, and return how many seconds the cloud asks us to wait.

        Errors are logged, without content, and the flush is tried again.
        """
        try:
            if not self._outbox.counts().accepted:
                return 0.0
            report = flush(self._outbox, self._handoff, self._options)
        except Exception as error:  # from the file, or from a rule in the deployer's code
            kind = type(error.__cause__ or error).__name__
            _LOG.warning("%s: could not be flushed: %s", self._outbox.path, kind)
            return 0.0
        if report.answered or report.failed:
            counts = (report.answered, report.failed, report.remaining)
            _LOG.info("outbox: %d answered, %d failed, %d waiting", *counts)
        return min(report.retry_after or 0.0, MAX_WAIT)
