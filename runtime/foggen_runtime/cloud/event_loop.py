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
    """Runs asynchronous work for other threads; its own starts with the first piece of it.

    anyio's portal carries the work over, in a daemon thread of ours: `start_blocking_portal`
    would hang the end of a process that never closed it.
    """

    def __init__(self, name: str, last: Callable[[], Awaitable[None]]) -> None:
        """Start nothing yet.

        Args:
            name: The thread's.
            last: Called in the loop once it is closed and all other work has ended; never called
                if nothing ever ran.
        """
        self._last = last
        # The garbage collector may call `finish` in a thread that holds the lock already.
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
            cancellation: Cancels it, too.

        Raises:
            RuntimeError: The loop was closed.
            CancelledError: `cancellation` said so.
        """
        cancellation = cancellation or Cancellation()
        cancellation.check()
        begun: list[asyncio.Task[Any]] = []

        def cancel() -> None:
            with suppress(RuntimeError):  # the loop was closed, which cancels it as well
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
        """Run what closes a generator, also after the loop was closed.

        The garbage collector may ask for it in the loop's own thread, which cannot wait for
        itself. Nothing is done there: asyncio closes generators that nobody refers to. Nor is
        anything at the end of the process, when the thread is gone.
        """
        if threading.current_thread() is not self._thread and not sys.is_finalizing():
            with suppress(RuntimeError):
                self.run(work)

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call something in the loop, and do not wait for it, nor for the loop to start.

        Raises:
            RuntimeError: The loop was closed.
        """
        with self._lock:
            self._open().call_soon_threadsafe(call)

    def close(self) -> None:
        """Cancel what runs, call `last`, and end the thread."""
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
    """Looks names up in daemon threads: the usual pool's would hold up the end of the process."""

    async def getaddrinfo(self, *args: Any, **options: Any) -> list[Any]:
        found: Future[list[Any]] = Future()
        found.set_running_or_notify_cancel()  # a lookup cannot be cancelled, only left alone

        def look_up() -> None:
            try:
                found.set_result(socket.getaddrinfo(*args, **options))
            except Exception as error:
                found.set_exception(error)

        threading.Thread(target=look_up, daemon=True).start()
        return await asyncio.wrap_future(found)


def _closed() -> RuntimeError:
    return RuntimeError("the cloud client was closed")
