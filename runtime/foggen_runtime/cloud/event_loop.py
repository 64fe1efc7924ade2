"""An asyncio event loop in a thread of its own, for callers that have none."""

import asyncio
import inspect
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.errors import CancelledError

T = TypeVar("T")


class EventLoopThread:
    """Runs coroutines for other threads. The thread starts with the first one.

    It is a daemon, and nothing in it keeps the process alive.
    """

    def __init__(self, name: str) -> None:
        """Start nothing yet.

        Args:
            name: The thread's.
        """
        self._name = name
        self._lock = threading.Lock()
        self._closed = False
        self._loop: _Loop | None = None
        self._thread: threading.Thread | None = None
        self._finishing: set[asyncio.Task[None]] = set()

    def run(self, coroutine: Coroutine[Any, Any, T], cancellation: Cancellation | None = None) -> T:
        """Wait for a coroutine's result; interrupting the waiting thread cancels it.

        Args:
            coroutine: What to run.
            cancellation: Cancels it, too.

        Raises:
            RuntimeError: The loop was closed.
            CancelledError: `cancellation` said so.
        """
        cancellation = cancellation or Cancellation()
        tasks: list[asyncio.Task[T]] = []
        done: Future[T] = Future()

        def start() -> None:
            tasks.append(asyncio.ensure_future(coroutine))
            tasks[0].add_done_callback(lambda task: _copy(task, done))

        def cancel() -> None:
            with suppress(RuntimeError):  # the loop was closed, which cancels it as well
                self.call_soon(lambda: tasks[0].cancel())

        try:
            cancellation.check()
            self.call_soon(start)
        except (CancelledError, RuntimeError):
            coroutine.close()
            raise
        try:
            with cancellation.ends_by(cancel):
                return done.result()
        except BaseException as error:
            if not done.done():
                cancel()
                wait([done])
            if isinstance(error, RuntimeError):
                cancellation.check()
            raise

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run what ends something, also where nobody can wait for it, or the loop was closed."""
        if threading.current_thread() is self._thread:
            # The garbage collector runs finalizers in any thread.
            task = asyncio.ensure_future(coroutine)
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)
            return
        with suppress(RuntimeError):
            self.run(coroutine)

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call something in the loop, and do not wait for it.

        Raises:
            RuntimeError: The loop was closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the cloud client was closed")
            if self._loop is None:
                self._loop = _Loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name=self._name, daemon=True
                )
                self._thread.start()
            self._loop.call_soon_threadsafe(call)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel what runs, run a last coroutine if any ran before, and end the thread."""
        if self._loop is not None and not self._closed:
            self.run(_cancel_others())
            self.run(last())
            self.run(_end_generators())
        with self._lock:
            closed, self._closed = self._closed, True
        if self._loop is not None and self._thread is not None and not closed:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


class _Loop(asyncio.SelectorEventLoop):
    """Looks names up in daemon threads: the usual pool's would hold up the end of the process."""

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        found: asyncio.Future[list[Any]] = self.create_future()

        def look_up() -> None:
            try:
                addresses = socket.getaddrinfo(host, port, family, type, proto, flags)
            except (OSError, UnicodeError) as error:
                self._tell(found, error)
            else:
                self._tell(found, addresses)

        threading.Thread(target=look_up, daemon=True).start()
        return await found

    def _tell(self, found: "asyncio.Future[list[Any]]", outcome: list[Any] | Exception) -> None:
        def tell() -> None:
            if found.done():
                return
            if isinstance(outcome, Exception):
                found.set_exception(outcome)
            else:
                found.set_result(outcome)

        with suppress(RuntimeError):  # the loop was closed meanwhile
            self.call_soon_threadsafe(tell)


def _copy(task: asyncio.Task[T], done: "Future[T]") -> None:
    if task.cancelled():
        done.set_exception(RuntimeError("the cloud client was closed"))
    elif error := task.exception():
        done.set_exception(error)
    else:
        done.set_result(task.result())


async def _cancel_others() -> None:
    """Cancel every task once it runs: one that never began would leave what it was given unawaited.

    anyio hands its tasks coroutines that way.
    """
    cancelled = {asyncio.current_task()}
    while new := asyncio.all_tasks() - cancelled:
        for task in new:
            coroutine = task.get_coro()
            began = not inspect.iscoroutine(coroutine) or coroutine.cr_running or coroutine.cr_await
            if began:
                task.cancel()
                cancelled.add(task)
        await asyncio.sleep(0)
    await _await_others()


async def _await_others() -> None:
    """Wait for what runs, and for what its end starts: generators are closed one in another."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.gather(*others, return_exceptions=True)


async def _end_generators() -> None:
    """Close what is suspended, and wait for what the garbage collector has begun to close."""
    await _await_others()
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.sleep(0)
    await _await_others()
