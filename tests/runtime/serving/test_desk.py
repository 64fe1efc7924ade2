"""The line in front of the engine."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.errors import RequestError
from foggen_runtime.result import BundleRef, Result
from foggen_runtime.serving.desk import AbandonedError, ClosedError, Desk
from foggen_runtime.serving.requests import ChatRequest

RESULT = Result("B", "local", "confident", 0.5, "default", BundleRef("tiny", "0" * 64))
Test = Callable[[], Coroutine[Any, Any, None]]


class Asker:
    """Answers with the question, after it was let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = threading.Event()
        self.finished = threading.Event()
        self.go = threading.Event()
        self._events: list[Iterator[str | Result]] = []  # kept, or Python would close them itself

    def __call__(self, request: ChatRequest, cancellation: Cancellation) -> Iterator[str | Result]:
        self.asked.append(request.question)
        self._events.append(self._answer(request))
        return self._events[-1]

    def _answer(self, request: ChatRequest) -> Iterator[str | Result]:
        try:
            yield "first"
            assert self.go.wait(10)
            if request.question == "bad":
                raise ValueError("what was asked")
            yield "second"
            self.finished.set()
            yield RESULT
        finally:
            self.closed.set()


def ended(desk: Desk) -> bool:
    desk.close()
    return desk.join(10)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def run(test: Callable[[Asker, Desk], Coroutine[Any, Any, None]], waiting: int = 8) -> Asker:
    """Run a test against a desk of one thread, and end it."""
    asker = Asker()
    desk = Desk(asker, threads=1, waiting=waiting)
    try:
        asyncio.run(test(asker, desk))
    finally:
        asker.go.set()
        assert ended(desk)
    return asker


def test_pieces_come_before_the_result_and_questions_in_order() -> None:
    async def test(asker: Asker, desk: Desk) -> None:
        jobs = [desk.submit(ChatRequest(str(i))) for i in range(5)]
        assert await jobs[0].next() == "first"
        asker.go.set()
        assert [await jobs[0].next(), await jobs[0].next()] == ["second", RESULT]
        for job in jobs[1:]:
            assert [await job.next() for _ in range(3)] == ["first", "second", RESULT]

    assert run(test).asked == ["0", "1", "2", "3", "4"]


def test_the_line_is_bounded() -> None:
    async def test(asker: Asker, desk: Desk) -> None:
        jobs = [desk.submit(ChatRequest("a")) for _ in range(3)]
        with pytest.raises(RequestError) as caught:
            desk.submit(ChatRequest("b"))
        assert caught.value.status == 429
        assert dict(caught.value.headers)["Retry-After"] == "1"
        asker.go.set()
        while not isinstance(await jobs[0].next(), Result):
            pass
        desk.submit(ChatRequest("c"))

    run(test, waiting=2)


def test_the_wait_asked_for_grows_with_the_line_and_is_bounded() -> None:
    async def test(asker: Asker, desk: Desk) -> None:
        first = desk.submit(ChatRequest("slow"))
        await asyncio.sleep(1.2)
        asker.go.set()
        while not isinstance(await first.next(), Result):
            pass
        asker.go.clear()
        for _ in range(4):
            desk.submit(ChatRequest("a"))
        with pytest.raises(RequestError) as caught:
            desk.submit(ChatRequest("b"))
        assert 4 <= int(dict(caught.value.headers)["Retry-After"]) <= 60

    run(test, waiting=3)


def test_who_leaves_the_line_is_never_asked() -> None:
    async def test(asker: Asker, desk: Desk) -> None:
        first = desk.submit(ChatRequest("first"))
        await until(lambda: desk.running == 1)
        gone, last = desk.submit(ChatRequest("gone")), desk.submit(ChatRequest("last"))
        desk.cancel(gone)
        assert desk.waiting == 1
        with pytest.raises(AbandonedError):
            await gone.next()
        asker.go.set()
        for job in (first, last):
            while not isinstance(await job.next(), Result):
                pass

    assert run(test).asked == ["first", "last"]


def test_asking_is_closed_at_the_next_piece() -> None:
    async def test(asker: Asker, desk: Desk) -> None:
        job = desk.submit(ChatRequest("a"))
        assert await job.next() == "first"
        desk.cancel(job)
        assert not asker.closed.is_set()
        asker.go.set()
        await until(lambda: desk.running == 0)
        assert asker.closed.is_set()
        assert not asker.finished.is_set()
        with pytest.raises(AbandonedError):
            await job.next()

    run(test)


def test_who_leaves_ends_what_the_asking_waits_for() -> None:
    asked = threading.Event()

    def ask(_: ChatRequest, cancellation: Cancellation) -> Iterator[str | Result]:
        left = threading.Event()
        with cancellation.ends_by(left.set):
            asked.set()
            assert left.wait(10)
        cancellation.check()
        yield RESULT

    async def test() -> None:
        job = desk.submit(ChatRequest("gone"))
        await until(asked.is_set)
        desk.cancel(job)
        await until(lambda: desk.running == 0)
        for _ in range(2):  # told at once, and again by the thread
            with pytest.raises(AbandonedError):
                await job.next()

    desk = Desk(ask, threads=1, waiting=0)
    asyncio.run(test())
    assert ended(desk)


def test_an_error_is_the_questions_not_the_threads() -> None:
    async def test(asker: Asker, desk: Desk) -> None:
        bad, good = desk.submit(ChatRequest("bad")), desk.submit(ChatRequest("good"))
        asker.go.set()
        assert await bad.next() == "first"
        with pytest.raises(ValueError, match="what was asked"):
            await bad.next()
        assert [await good.next() for _ in range(3)] == ["first", "second", RESULT]

    run(test)


def test_closing_cancels_who_waits() -> None:
    async def test(asker: Asker, desk: Desk) -> None:
        running = desk.submit(ChatRequest("running"))
        assert await running.next() == "first"
        waiting = desk.submit(ChatRequest("waiting"))
        desk.close()
        with pytest.raises(ClosedError):
            await waiting.next()
        asker.go.set()
        with pytest.raises(ClosedError):
            await running.next()

    assert run(test).asked == ["running"]


def test_several_threads_ask_at_once() -> None:
    asker = Asker()
    desk = Desk(asker, threads=3, waiting=0)

    async def test() -> None:
        for i in range(3):
            desk.submit(ChatRequest(str(i)))
        await until(lambda: len(asker.asked) == 3)
        with pytest.raises(RequestError):
            desk.submit(ChatRequest("one more"))

    try:
        asyncio.run(test())
    finally:
        asker.go.set()
        assert ended(desk)
