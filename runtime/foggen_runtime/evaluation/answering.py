"""Answering labelled questions with a bundle, each locally whatever its confidence."""

from dataclasses import dataclass
from pathlib import Path

from foggen_runtime.ask.foggen import Foggen
from foggen_runtime.errors import EngineError
from foggen_runtime.evaluation.grading import LabelledQuestion
from foggen_runtime.evaluation.records import Record
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.local_model import OpenOptions


@dataclass(frozen=True)
class Job:
    """What a worker must know to answer.

    Attributes:
        bundle: The bundle's directory.
        options: How to open it.
        decoding: How to decode.
    """

    bundle: Path
    options: OpenOptions
    decoding: Decoding


class Answerer:
    """A bundle opened once, for many questions."""

    def __init__(self, job: Job) -> None:
        """Open the bundle.

        Raises:
            BundleError: It is missing, altered, or of a version this runtime does not read.
        """
        self._job = job
        self._foggen = Foggen.open(job.bundle, options=job.options)

    def answer(self, question: LabelledQuestion) -> Record:
        """Answer one question.

        Raises:
            EngineError: The model failed: that says nothing of the answer.
        """
        result = self._foggen.ask(
            question.question, route="local_only", decoding=self._job.decoding
        )
        if result.reason == "local_error":
            raise EngineError(f"question {question.id}: {result.detail}")
        return Record.of(question, result)
