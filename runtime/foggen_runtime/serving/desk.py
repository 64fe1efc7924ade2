"""Where questions wait: a line of limited length, and threads that ask them in order."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.errors import CancelledError, RequestError
from foggen_runtime.result import Result
from foggen_runtime.serving.requests import ChatRequest

_MAX_RETRY_AFTER = 60  # seconds
_SMOOTHING = 0.2  # share of the newest question in the mean time of one

Ask = Callable[[ChatRequest, Cancellation], Iterator[str | Result]]


class AbandonedError(Exception):
    """Nobody is waiting for the answer any more."""


class ClosedError(Exception):
    """The desk was closed before the question was answered."""


class Job:
    """One question being asked; made and read in the event loop's thread."""

    def __init__(self, request: ChatRequest) -> None:
        self.request = request
        self.cancellation = Cancellation()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[str | Result | Exception] = asyncio.Queue()

    async def next(self) -> str | Result:
        """Wait for the next piece of the answer, in the end the result.

        Raises:
            Exception: What asking raised, or `AbandonedError`, or `ClosedError`.
        """
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    def tell(self, event: str | Result | Exception) -> None:
        """Hand over the next event, from any thread."""
        with suppress(RuntimeError):  # the loop may already be closed
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


class Desk:
    """Asks questions in threads, in the order in which they came.

    Attributes:
        running: Questions being asked.
        served: Questions whose asking has ended.
    """

    def __init__(self, ask: Ask, threads: int, waiting: int) -> None:
        """Start the threads.

        Args:
            ask: Asks a question; runs in a thread of this desk, in `threads` of them at once.
            threads: How many questions are asked at once.
            waiting: The most questions that may wait besides those.
        """
        self.running = 0
        self.served = 0
        self._ask = ask
        self._room = threads + waiting
        self._line: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._mean_seconds = 0.0
        self._threads = [
            threading.Thread(target=self._work, name=f"foggen-ask-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many questions are waiting."""
        return len(self._line)

    def submit(self, request: ChatRequest) -> Job:
        """Put a question in line; call it in the event loop's thread.

        Raises:
            RequestError: The line is full; status 429, with `Retry-After`.
        """
        job = Job(request)
        with self._changed:
            if self.running + len(self._line) >= self._room:
                raise self._busy()
            self._line.append(job)
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Take a question out of the line; if it has begun, end its wait or its next piece."""
        job.cancellation.cancel()
        with self._changed, suppress(ValueError):
            self._line.remove(job)
        job.tell(AbandonedError())

    def close(self) -> None:
        """Cancel what is waiting; what is running ends at its next piece."""
        with self._changed:
            self._closed = True
            waiting = list(self._line)
            self._line.clear()
            self._changed.notify_all()
        for job in waiting:
            job.tell(ClosedError())

    def join(self, seconds: float) -> bool:
        """Wait for the threads to end; return whether they did."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (job := self._take()) is not None:
            started = time.monotonic()
            last = self._run(job)
            with self._changed:
                self.running -= 1
                self.served += 1
                seconds = time.monotonic() - started
                share = _SMOOTHING if self._mean_seconds else 1.0
                self._mean_seconds += share * (seconds - self._mean_seconds)
            # This comes last, so that a client that asks again at once finds the place free.
            job.tell(last)

    def _take(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._line or self._closed)
            if self._closed:
                return None
            self.running += 1
            return self._line.popleft()

    def _run(self, job: Job) -> Result | Exception:
        """Ask, pass every piece to the job, and return what ends it: the result or any error."""
        events = None
        try:
            events = self._ask(job.request, job.cancellation)
            for event in events:
                if isinstance(event, Result):
                    return event
                if job.cancellation.cancelled:
                    return AbandonedError()
                if self._closed:
                    return ClosedError()
                job.tell(event)
        except CancelledError:
            return AbandonedError()
        except Exception as error:
            return error
        else:
            return AssertionError("a stream ends with a Result")
        finally:
            if close := getattr(events, "close", None):
                close()

    def _busy(self) -> RequestError:
        seconds = self._mean_seconds * (len(self._line) + 1) / len(self._threads)
        wait = min(max(math.ceil(seconds), 1), _MAX_RETRY_AFTER)
        message = (
            f"server: {self._room} questions are waiting or being answered, the most allowed; "
            "try again later"
        )
        return RequestError(429, "queue_full", message, headers=(("Retry-After", str(wait)),))
