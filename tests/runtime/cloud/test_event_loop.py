"""A loop in a thread: interrupts, finalizers, closing, and names that do not resolve."""

import asyncio
import gc
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.cloud.client import CloudClient
from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.cloud.event_loop import EventLoopThread
from foggen_runtime.errors import CancelledError, HandoffError
from tests.support.cloud_server import CloudServer, Fault
from tests.support.tls_server import wait_until

REPOSITORY = Path(__file__).parent.parent.parent.parent


async def nothing() -> None:
    pass


@pytest.fixture
def thread() -> Iterator[EventLoopThread]:
    thread = EventLoopThread("test-loop", nothing)
    yield thread
    thread.close()


def running() -> bool:
    return any(each.name == "test-loop" for each in threading.enumerate())


def test_results_and_errors_come_back(thread: EventLoopThread) -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    async def fail() -> None:
        raise LookupError("lost")

    assert not running()
    assert thread.run(lambda: add(2, 3)) == 5
    assert running()
    with pytest.raises(LookupError, match="lost"):
        thread.run(fail)


def test_an_interrupt_cancels_and_waits_for_the_end(thread: EventLoopThread) -> None:
    ended = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.set()

    main = threading.main_thread().ident
    assert main is not None
    # A shell starts what runs in the background with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        thread.run(hang)
    assert ended.is_set()
    timer.join()
    signal.signal(signal.SIGINT, before)


def test_another_thread_cancels_and_the_loop_goes_on(thread: EventLoopThread) -> None:
    begun, ended, cancellation = threading.Event(), threading.Event(), Cancellation()

    async def hang() -> None:
        try:
            begun.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.set()

    def cancel() -> None:
        assert begun.wait(10)
        time.sleep(0.1)  # for the thread to wait
        cancellation.cancel()

    other = threading.Thread(target=cancel)
    other.start()
    with pytest.raises(CancelledError, match="no longer wanted"):
        thread.run(hang, cancellation)
    assert ended.is_set()
    other.join()
    assert thread.run(lambda: asyncio.sleep(0, "next")) == "next"


def test_what_was_cancelled_before_never_begins(thread: EventLoopThread) -> None:
    cancellation = Cancellation()
    begun: list[bool] = []

    async def begin() -> None:
        begun.append(True)

    cancellation.cancel()
    with pytest.raises(CancelledError):
        thread.run(begin, cancellation)
    thread.run(nothing)
    assert begun == []


def test_a_result_that_came_is_given_and_cancelling_later_ends_nothing(
    thread: EventLoopThread,
) -> None:
    cancellation = Cancellation()
    assert thread.run(lambda: asyncio.sleep(0, "first"), cancellation) == "first"
    cancellation.cancel()
    assert thread.run(lambda: asyncio.sleep(0.05, "another's")) == "another's"


def test_closing_cancels_what_runs_and_ends_the_thread() -> None:
    order: list[str] = []
    outcome: list[BaseException] = []

    async def last() -> None:
        order.append("last")

    thread = EventLoopThread("test-loop", last)

    async def hang() -> None:
        try:
            order.append("begun")
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            order.append("ended")

    def wait() -> None:
        try:
            thread.run(hang)
        except RuntimeError as error:
            outcome.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_until(lambda: order == ["begun"])
    thread.close()
    assert order == ["begun", "ended", "last"]
    waiting.join(2)
    assert "was closed" in str(outcome[0])
    assert not running()
    thread.close()
    assert order == ["begun", "ended", "last"]
    with pytest.raises(RuntimeError, match="was closed"):
        thread.run(nothing)
    with pytest.raises(RuntimeError, match="was closed"):
        thread.call_soon(print)


def test_closing_what_never_ran_does_nothing() -> None:
    async def last() -> None:
        pytest.fail("nothing ran, so nothing has to end")

    EventLoopThread("test-loop", last).close()
    assert not running()


def test_what_ends_a_generator_is_left_to_asyncio_in_the_loops_own_thread(
    thread: EventLoopThread,
) -> None:
    closed, finished = threading.Event(), threading.Event()

    async def items() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            closed.set()

    generators = [items()]
    assert thread.run(lambda: anext(generators[0])) == 1

    def abandon() -> None:
        thread.finish(generators.pop().aclose)
        finished.set()

    thread.call_soon(abandon)
    assert finished.wait(10)
    assert closed.wait(10)


def test_closing_ends_generators_that_are_suspended() -> None:
    thread = EventLoopThread("test-loop", nothing)
    ended = threading.Event()

    async def items() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.set()

    generator = items()
    assert thread.run(lambda: anext(generator)) == 1
    thread.close()
    assert ended.is_set()


def test_an_abandoned_stream_is_closed_by_the_garbage_collector_of_any_thread() -> None:
    with CloudServer(str, Fault.STALL) as server:
        client = CloudClient(Cloud(server.url, "big"))
        streams = [client.stream("ab" * 1000)]
        next(streams[0])
        collected = threading.Event()

        def collect() -> None:
            streams.clear()
            gc.collect()
            collected.set()

        client._thread.call_soon(collect)
        assert collected.wait(10)
        assert server.disconnected.wait(10)
        client.close()


def test_a_stream_closed_after_its_client_is_closed_already(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with CloudServer(str, Fault.STALL) as server:
        client = CloudClient(Cloud(server.url, "big"))
        stream = client.stream("ab" * 1000)
        next(stream)
        client.close()
        assert server.disconnected.wait(10)
        stream.close()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def slow_lookup(*_: object, **__: object) -> list[object]:
    time.sleep(1.0)
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def test_a_name_that_is_looked_up_slowly_ends_at_the_connect_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", slow_lookup)
    cloud = Cloud("http://cloud.invalid/v1", "big", connect_timeout=0.2, max_retries=0)
    start = time.perf_counter()
    with CloudClient(cloud) as client, pytest.raises(HandoffError) as caught:
        client.complete("Which is larger?")
    assert 0.2 <= time.perf_counter() - start < 0.9
    assert caught.value.reason == "cloud_unreachable"
    time.sleep(1.0)  # the lookup ends in a loop that is gone, and nobody is told


def test_a_lookup_does_not_hold_up_the_end_of_the_process() -> None:
    program = """
import socket, time
socket.getaddrinfo = lambda *_, **__: time.sleep(60)
from foggen_runtime.cloud.client import CloudClient
from foggen_runtime.cloud.endpoints import Cloud
client = CloudClient(Cloud("http://cloud.invalid/v1", "big"))
client.warm()
time.sleep(0.3)
print(time.monotonic(), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert time.monotonic() - float(done.stdout) < 2
    assert done.stderr == b""


def test_a_stream_and_a_client_that_nobody_closed_do_not_hold_up_the_end_of_the_process() -> None:
    program = """
from foggen_runtime.cloud.client import CloudClient
from foggen_runtime.cloud.endpoints import Cloud
from tests.support.cloud_server import Fault
from tests.support.local_cloud import LocalCloud
server = LocalCloud(str, Fault.STALL)
client = CloudClient(Cloud(server.url, "big"), transport=server)
stream = client.stream("ab" * 1000)
print(len(next(stream)))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=REPOSITORY)
    assert (done.stdout, done.stderr) == (b"1000\n", b"")
