"""Actors on a local Ray cluster answer as one process does, and their death loses nothing."""

import dataclasses
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from foggen_runtime import EngineOptions, OpenOptions
from foggen_runtime.errors import EngineError, FoggenError
from foggen_runtime.evaluation.answering import Job
from foggen_runtime.evaluation.executors import MAX_DEATHS, OneProcess
from foggen_runtime.evaluation.ray_executor import BatchAnswerer, RayActors
from foggen_runtime.evaluation.records import Record
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.text.questions import Question, read_questions
from tests.conftest import TINY, BundleOf

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::Warning")]

QUESTIONS = read_questions(TINY / "heldout.jsonl", labelled=True).questions[:100]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def job(tiny_bundle: BundleOf) -> Job:
    options = OpenOptions(EngineOptions(threads=1, spinning=False))
    return Job(tiny_bundle("int4"), options, Decoding())


@dataclasses.dataclass(frozen=True)
class DyingJob(Job):
    """Actors are killed at one question, as often as a file has bytes."""

    deaths: Path | None = None


class Dying(BatchAnswerer):
    def __init__(self, job: DyingJob) -> None:
        super().__init__(job)
        self._deaths = job.deaths

    def answer(self, questions: Sequence[Question]) -> list[Record] | FoggenError:
        fatal = QUESTIONS[40].id in [question.id for question in questions]
        if fatal and self._deaths and (left := self._deaths.read_bytes()):
            self._deaths.write_bytes(left[1:])
            os.kill(os.getpid(), signal.SIGKILL)
        return super().answer(questions)


def steady(record: Record) -> dict[str, Any]:
    document = dataclasses.asdict(record)
    del document["timing_ms"]
    return document


def dying(job: Job, deaths: Path, times: int) -> DyingJob:
    deaths.write_bytes(b"x" * times)
    return DyingJob(job.bundle, job.options, job.decoding, deaths)


def test_a_killed_actor_loses_nothing(job: Job, tmp_path: Path) -> None:
    expected = [steady(record) for record in OneProcess(job).records(QUESTIONS)]
    actors = RayActors(dying(job, tmp_path / "deaths", 1), 2, Dying)
    assert [steady(record) for record in actors.records(QUESTIONS)] == expected
    assert not (tmp_path / "deaths").read_bytes()


def test_a_batch_that_kills_every_actor_is_given_up(job: Job, tmp_path: Path) -> None:
    actors = RayActors(dying(job, tmp_path / "deaths", 99), 1, Dying)
    done: list[str] = []
    with pytest.raises(EngineError, match="actors died 3 times"):
        done.extend(record.id for record in actors.records(QUESTIONS))
    assert done == [question.id for question in QUESTIONS[:32]]
    assert len((tmp_path / "deaths").read_bytes()) <= 99 - MAX_DEATHS
