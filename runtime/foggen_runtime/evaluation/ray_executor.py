"""Answering on a Ray cluster: actors that open the bundle once and take batches of questions.

The bundle's directory must exist on every node. Needs the extra `ray`. Ray replaces
an actor that dies, and sends its batch again.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from foggen_runtime.errors import ConfigError, EngineError, FoggenError
from foggen_runtime.evaluation.answering import Answerer, Job
from foggen_runtime.evaluation.executors import MAX_DEATHS
from foggen_runtime.evaluation.records import Record
from foggen_runtime.text.questions import Question

BATCH = 16
_WAITING_PER_ACTOR = 2


class BatchAnswerer:
    """An actor: a bundle opened once, for batches."""

    def __init__(self, job: Job) -> None:
        self._answerer = Answerer(job)

    def answer(self, questions: Sequence[Question]) -> list[Record] | FoggenError:
        """Answer a batch; an error is returned, as Ray would wrap one that is raised."""
        try:
            return [self._answerer.answer(question) for question in questions]
        except FoggenError as error:
            return error


class RayActors:
    """Answers in actors of a Ray cluster.

    It is the cluster that `ray.init` finds: this process's, else the one that the environment
    names, else a new one on this machine, which is shut down afterwards.
    """

    def __init__(self, job: Job, workers: int, kind: type[BatchAnswerer] = BatchAnswerer) -> None:
        """Start nothing yet.

        Args:
            job: What an actor must know.
            workers: How many actors.
            kind: What they are.

        Raises:
            ConfigError: Ray is not installed.
        """
        try:
            import ray
        except ImportError:
            raise ConfigError("executor: ray needs Ray: pip install 'foggen[ray]'") from None
        self._ray: Any = ray
        self._job, self._workers, self._kind = job, workers, kind

    def records(self, questions: Sequence[Question]) -> Iterator[Record]:
        """Yield a record for each question, in their order."""
        if not questions:
            return
        ours = not self._ray.is_initialized()
        if ours:
            self._ray.init(include_dashboard=False, log_to_driver=False)
        actors = [self._actor() for _ in range(self._workers)]
        try:
            yield from self._answer(questions, actors)
        finally:
            for actor in actors:
                self._ray.kill(actor)
            if ours:
                self._ray.shutdown()

    def _actor(self) -> Any:
        actor = self._ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=MAX_DEATHS - 1)(
            self._kind
        )
        return actor.remote(self._job)

    def _answer(self, questions: Sequence[Question], actors: Sequence[Any]) -> Iterator[Record]:
        batches = [questions[start : start + BATCH] for start in range(0, len(questions), BATCH)]
        waiting: deque[tuple[int, Any]] = deque()
        sent = 0
        while sent < len(batches) or waiting:
            while sent < len(batches) and len(waiting) < _WAITING_PER_ACTOR * len(actors):
                waiting.append((sent, actors[sent % len(actors)].answer.remote(batches[sent])))
                sent += 1
            number, reference = waiting.popleft()
            yield from self._take(batches[number], reference)

    def _take(self, batch: Sequence[Question], reference: Any) -> list[Record]:
        """Return a batch's records."""
        try:
            outcome: list[Record] | FoggenError = self._ray.get(reference)
        except self._ray.exceptions.RayActorError as error:
            raise EngineError(
                f"questions {batch[0].id} to {batch[-1].id}: actors died {MAX_DEATHS} times "
                f"before they were answered: {error}"
            ) from error
        if isinstance(outcome, FoggenError):
            raise outcome
        return outcome
