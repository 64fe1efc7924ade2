"""Workers answer as one process does, and their death loses nothing."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foggen_runtime import EngineOptions, OpenOptions
from foggen_runtime.errors import EngineError
from foggen_runtime.evaluation import executors
from foggen_runtime.evaluation.answering import Answerer, Job
from foggen_runtime.evaluation.executors import MAX_DEATHS, OneProcess, ProcessPool
from foggen_runtime.evaluation.records import Record
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.text.questions import Question, read_questions
from tests.conftest import TINY, BundleOf

QUESTIONS = read_questions(TINY / "heldout.jsonl", labelled=True).questions[:20]
FATAL = QUESTIONS[7].id


@pytest.fixture
def job(tiny_bundle: BundleOf) -> Job:
    return Job(
        tiny_bundle("int4"), OpenOptions(EngineOptions(threads=1, spinning=False)), Decoding()
    )


def steady(record: Record) -> dict[str, Any]:
    document = dataclasses.asdict(record)
    del document["timing_ms"]
    return document


@dataclasses.dataclass(frozen=True)
class DyingJob(Job):
    """A worker that is killed at one question, as often as a file has bytes."""

    deaths: Path | None = None


class DyingAnswerer(Answerer):
    def __init__(self, job: DyingJob) -> None:
        super().__init__(job)
        self._deaths = job.deaths

    def answer(self, question: Question) -> Record:
        if question.id == FATAL and self._deaths and (left := self._deaths.read_bytes()):
            self._deaths.write_bytes(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)
        return super().answer(question)


def open_dying(job: DyingJob) -> None:
    executors._answerer = DyingAnswerer(job)


def dying(job: Job, deaths: Path, times: int) -> DyingJob:
    deaths.write_bytes(b"x" * times)
    return DyingJob(job.bundle, job.options, job.decoding, deaths)


@pytest.fixture
def die(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(executors, "_open", open_dying)


def test_answers_are_right_where_the_held_out_file_says(job: Job) -> None:
    records = list(OneProcess(job).records(QUESTIONS))
    assert [record.id for record in records] == [question.id for question in QUESTIONS]
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    for record, line in zip(records, lines, strict=False):
        assert record.local_correct == (record.local_choice == json.loads(line)["answer"])
        assert record.cloud_correct == (record.cloud_answer == json.loads(line)["answer"])
        assert record.local_choice


def test_a_killed_worker_loses_nothing(job: Job, tmp_path: Path, die: Callable[[], None]) -> None:
    expected = [steady(record) for record in OneProcess(job).records(QUESTIONS)]
    die()
    pool = ProcessPool(dying(job, tmp_path / "deaths", 1), 2)
    assert [steady(record) for record in pool.records(QUESTIONS)] == expected
    assert not (tmp_path / "deaths").read_bytes()


def test_a_question_that_kills_every_worker_is_given_up(
    job: Job, tmp_path: Path, die: Callable[[], None]
) -> None:
    die()
    records = ProcessPool(dying(job, tmp_path / "deaths", 99), 1).records(QUESTIONS)
    done: list[str] = []
    with pytest.raises(EngineError, match=f"question {FATAL}: workers died {MAX_DEATHS} times"):
        done.extend(record.id for record in records)
    assert len((tmp_path / "deaths").read_bytes()) == 99 - MAX_DEATHS


def test_no_question_opens_nothing(tmp_path: Path) -> None:
    nowhere = Job(tmp_path, OpenOptions(), Decoding())
    assert list(OneProcess(nowhere).records([])) == []
    assert list(ProcessPool(nowhere, 2).records([])) == []
