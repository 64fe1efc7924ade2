"""Running an evaluation: from questions to records on disk."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.answering import Job
from foggen_runtime.evaluation.executors import Executor, OneProcess, ProcessPool
from foggen_runtime.evaluation.grading import reply_is_right
from foggen_runtime.evaluation.records import Header, Record, RecordWriter
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.local_model import OpenOptions
from foggen_runtime.text.questions import Question


@dataclass(frozen=True)
class Run:
    """What to run.

    Attributes:
        bundle: The bundle's directory.
        data: Labelled questions.
        records: Where to keep records; None for a temporary file.
        skip_bad: Whether to leave out malformed lines.
        options: How to open the bundle.
        decoding: How to decode.
        workers: How many processes or actors answer.
        executor: Where they run.
    """

    bundle: Path
    data: Path
    records: Path | None
    skip_bad: bool
    options: OpenOptions
    decoding: Decoding = field(default_factory=Decoding)
    workers: int = 1
    executor: Literal["local", "ray"] = "local"

    def header(self, data_sha256: str, cloud: str | None) -> Header:
        """Return the records' header."""
        manifest = Manifest.load(self.bundle)
        return Header(
            manifest.model.name,
            manifest.sha256,
            manifest.quantization.recipe,
            manifest.template.level_values,
            data_sha256,
            self.decoding.mode,
            cloud,
        )

    def make_executor(self) -> Executor:
        """Return who answers; several workers have one thread each unless told otherwise."""
        options = self.options
        engine = options.engine or EngineOptions(spinning=False)
        if engine.threads is None and (self.workers > 1 or self.executor == "ray"):
            options = replace(options, engine=replace(engine, threads=1))
        job = Job(self.bundle.resolve(), options, self.decoding)
        if self.executor == "ray":
            from foggen_runtime.evaluation.ray_executor import RayActors

            return RayActors(job, self.workers)
        return OneProcess(job) if self.workers == 1 else ProcessPool(job, self.workers)


class CloudClient(Protocol):
    """Answers a question in the cloud."""

    def complete(self, question: str) -> CloudAnswer:
        """Ask, and wait for the whole answer."""
        ...


def remaining(questions: Sequence[Question], writer: RecordWriter) -> Sequence[Question]:
    """Return the questions that the record file does not hold yet.

    Raises:
        ConfigError: The file's records are not those of the first questions.
    """
    done = len(writer.written)
    if tuple(question.id for question in questions[:done]) != writer.written:
        raise ConfigError(
            "records: must begin with the data's questions in the same order, except for skipped "
            "lines, do not; name another file"
        )
    return questions[done:]


def record_all(
    questions: Sequence[Question],
    executor: Executor,
    writer: RecordWriter,
    cloud: CloudClient | None,
    on_record: Callable[[], object],
) -> None:
    """Answer questions and write their records, one by one.

    Args:
        questions: Those that the file does not hold yet.
        executor: Answers them.
        writer: The file.
        cloud: Asked if the data has no cloud answer.
        on_record: Called after each.

    Raises:
        EngineError: A question cannot be answered; the records before it are kept.
        HandoffError: The cloud does not answer; likewise.
    """
    records: Iterable[Record] = executor.records(questions)
    if cloud:
        records = _with_cloud(zip(questions, records, strict=True), cloud)
    for record in records:
        writer.append(record)
        on_record()


def _with_cloud(pairs: Iterable[tuple[Question, Record]], cloud: CloudClient) -> Iterator[Record]:
    for question, record in pairs:
        if record.cloud_correct is not None:
            yield record
            continue
        text = cloud.complete(question.question).text
        correct = reply_is_right(question, text)
        yield replace(record, cloud_answer=text, cloud_correct=correct)
