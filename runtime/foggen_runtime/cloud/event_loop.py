"""A portal to an asyncio event loop, for threads that have none."""

import asyncio
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError as WorkCancelledError
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from foggen_runtime.cloud.cancellation import Cancellation

T = TypeVar("T")


class EventLoopThread:
    """Runs asynchronous work for other threads, in a thread that starts with the first work.

    It is anyio's portal in a daemon thread of our own: with `start_blocking_portal`, a process that
    never closed it would not end.
    """

    def __init__(self, name: str, last: Callable[[], Awaitable[None]]) -> None:
        """Start nothing yet.

        Args:
            name: The thread's name.
            last: Called in the loop once it is closed and all other work has ended; not called if
                nothing ever ran.
        """
        self._last = last
        # The garbage collector may call `finish` in a thread that already holds the lock.
        self._lock = threading.RLock()
        self._closed = False
        self._loop: _Loop | None = None
        self._portal: Future[BlockingPortal] = Future()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self, work: Callable[[], Awaitable[T]], cancellation: Cancellation | None = None) -> T:
        """Wait for the result of some work; interrupting the waiting thread cancels it.

        Args:
            work: Called in the loop.
            cancellation: Also cancels it.

        Raises:
            RuntimeError: The loop was closed.
            CancelledError: `cancellation` was cancelled.
        """
        cancellation = cancellation or Cancellation()
        cancellation.check()
        begun: list[asyncio.Task[Any]] = []

        def cancel() -> None:
            with suppress(RuntimeError):  # the loop was closed, which also cancels the work
                self.call_soon(lambda: [task.cancel() for task in begun])

        future: Future[T] | None = None
        try:
            future = self._start(lambda: self._watch(work, begun))
            with cancellation.ends_by(cancel):
                return future.result()
        except WorkCancelledError:
            cancellation.check()
            raise _closed() from None
        except BaseException:
            if future is None or not future.done():
                cancel()
                wait([future] if future else [])
            raise

    def finish(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run what closes a generator, even after the loop was closed.

        The garbage collector may call this in the loop's own thread, which cannot wait for itself.
        Then nothing is done: asyncio closes generators that nobody refers to. Nor is anything done
        at the end of the process, when the thread is gone.
        """
        if threading.current_thread() is not self._thread and not sys.is_finalizing():
            with suppress(RuntimeError):
                self.run(work)

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call something in the loop, without waiting for it or for the loop to start.

        Raises:
            RuntimeError: The loop was closed.
        """
        with self._lock:
            self._open().call_soon_threadsafe(call)

    def close(self) -> None:
        """Cancel what is running, call `last`, and end the thread."""
        with self._lock:
            running = self._loop is not None and not self._closed
            self._closed = True
        if running:
            portal = self._portal.result()
            portal.call(portal.stop)
            self._thread.join()

    def _open(self) -> "_Loop":
        if self._closed:
            raise _closed()
        if self._loop is None:
            self._loop = _Loop()
            self._thread.start()
        return self._loop

    def _start(self, work: Callable[[], Awaitable[T]]) -> Future[T]:
        with self._lock:
            self._open()
            return self._portal.result().start_task_soon(work)

    async def _watch(self, work: Callable[[], Awaitable[T]], begun: list[asyncio.Task[Any]]) -> T:
        """Do the work in a task that can be cancelled once.

        anyio's own way, cancelling the portal's future, would cancel again and again whatever the
        work awaits in order to end well.
        """
        task = asyncio.current_task()
        assert task is not None
        begun.append(task)
        self._tasks.add(task)
        try:
            return await work()
        finally:
            self._tasks.discard(task)

    def _serve(self) -> None:
        anyio.run(self._live, backend_options={"loop_factory": lambda: self._loop})

    async def _live(self) -> None:
        async with BlockingPortal() as portal:
            self._portal.set_result(portal)
            await portal.sleep_until_stopped()
            for task in self._tasks:
                task.cancel()
        await self._last()


class _Loop(asyncio.SelectorEventLoop):
    """Looks names up in daemon threads; those of the usual pool would delay the process's end."""

    async def getaddrinfo(self, *args: Any, **options: Any) -> list[Any]:
        found: Future[list[Any]] = Future()
        found.set_running_or_notify_cancel()  # a lookup cannot be cancelled, only abandoned

        def look_up() -> None:
            try:
                found.set_result(socket.getaddrinfo(*args, **options))
            except Exception as error:
                found.set_exception(error)

        threading.Thread(target=look_up, daemon=True).start()
        return await asyncio.wrap_future(found)


def _closed() -> RuntimeError:
    return RuntimeError("the cloud client was closed")
