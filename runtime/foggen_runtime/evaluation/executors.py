"""Who answers the questions of an evaluation: this process, or a pool of processes.

Either way, records come in the order of the questions. If a worker dies, only its question is lost,
and is asked again.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Protocol

from foggen_runtime.errors import EngineError
from foggen_runtime.evaluation.answering import Answerer, Job
from foggen_runtime.evaluation.records import Record
from foggen_runtime.text.questions import Question

# After this many workers have died of a question, give up.
MAX_DEATHS = 3
_WAITING_PER_WORKER = 8


class Executor(Protocol):
    """Answers questions."""

    def records(self, questions: Sequence[Question]) -> Iterator[Record]:
        """Yield a record for each question, in their order.

        Raises:
            EngineError: A question cannot be answered.
        """
        ...


class OneProcess:
    """Answers in this process."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def records(self, questions: Sequence[Question]) -> Iterator[Record]:
        """Yield a record for each question."""
        if not questions:
            return
        answerer = Answerer(self._job)
        yield from map(answerer.answer, questions)


class ProcessPool:
    """Answers in processes that each open the bundle once."""

    def __init__(self, job: Job, workers: int) -> None:
        self._job = job
        self._workers = workers

    def records(self, questions: Sequence[Question]) -> Iterator[Record]:
        """Yield a record for each question; a broken pool is replaced by a new one."""
        first, deaths = 0, 0
        while first < len(questions):
            try:
                for record in self._try(questions[first:]):
                    yield record
                    first, deaths = first + 1, 0
            except BrokenProcessPool:
                deaths += 1
                if deaths == MAX_DEATHS:
                    raise EngineError(
                        f"question {questions[first].id}: workers died {deaths} times before it "
                        "was answered, perhaps because memory ran out; try fewer --workers"
                    ) from None

    def _try(self, questions: Sequence[Question]) -> Iterator[Record]:
        """Yield records until the end, or until a worker dies."""
        # Threads and locks of onnxruntime do not survive a fork.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self._workers, context, _open, (self._job,))
        try:
            left = iter(questions)
            first = islice(left, _WAITING_PER_WORKER * self._workers)
            with _deaf_children():
                waiting: deque[Future[Record]] = deque(
                    pool.submit(_answer, question) for question in first
                )
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(_answer, question) for question in islice(left, 1))
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Let processes started in the block ignore Ctrl-C, which is for their parent."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


_answerer: Answerer | None = None


def _open(job: Job) -> None:
    """Start a worker process."""
    global _answerer
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _answerer = Answerer(job)


def _leave_with_parent() -> None:
    """End this process when its parent ends, even by a kill; otherwise it would wait forever."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _answer(question: Question) -> Record:
    if _answerer is None:
        raise EngineError("worker: must have been opened before it is asked, was not")
    return _answerer.answer(question)
