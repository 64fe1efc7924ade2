"""Answering questions with a bundle, each locally whatever its confidence."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from foggen_runtime.ask.foggen import Foggen
from foggen_runtime.bundle.manifest import ConfidenceKind
from foggen_runtime.errors import EngineError
from foggen_runtime.evaluation.records import Record
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.local_model import OpenOptions
from foggen_runtime.text.questions import Question


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

    def answer(self, question: Question) -> Record:
        """Answer one question, as `answered` does."""
        return answered(self._foggen, question, self._job.decoding)


def answered(foggen: Foggen, question: Question, decoding: Decoding) -> Record:
    """Have a bundle answer one question.

    Raises:
        EngineError: The model failed, which is not a wrong answer.
    """
    result = foggen.ask(question.question, route="local_only", decoding=decoding)
    if result.reason == "local_error":
        raise EngineError(f"question {question.id}: {result.detail}")
    return Record.of(question, result)


@dataclass(frozen=True)
class BundleFacts:
    """Which bundle was asked.

    Attributes:
        name: The model's.
        recipe: How it is quantized.
        sha256: The bundle's hash.
        tau_on: Which of its confidences tau is compared with: what it was calibrated on.
    """

    name: str
    recipe: str
    sha256: str
    tau_on: ConfidenceKind = "verbalized"


@dataclass(frozen=True)
class Evaluation:
    """A bundle, its confidence levels, and a record for each question, in their order."""

    bundle: BundleFacts
    levels: tuple[str, ...]
    records: tuple[Record, ...]


def evaluate(
    foggen: Foggen, questions: Iterable[Question], on_record: Callable[[], object]
) -> Evaluation:
    """Have a bundle answer every question, whatever its confidence.

    Args:
        foggen: The bundle.
        questions: What to ask.
        on_record: Called after each.

    Raises:
        EngineError: The model failed on a question.
    """
    manifest = foggen.model.bundle.manifest
    records = []
    for question in questions:
        records.append(answered(foggen, question, Decoding()))
        on_record()
    facts = BundleFacts(
        manifest.model.name, manifest.quantization.recipe, manifest.sha256, manifest.routing.on
    )
    return Evaluation(facts, manifest.template.levels, tuple(records))
