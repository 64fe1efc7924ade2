"""An evaluation on its way: questions in, records on the disk."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.executors import Executor
from foggen_runtime.evaluation.grading import LabelledQuestion
from foggen_runtime.evaluation.records import Record, RecordWriter


class CloudClient(Protocol):
    """Answers a question in the cloud."""

    def complete(self, question: str) -> CloudAnswer:
        """Ask, and wait for the whole answer."""
        ...


def remaining(
    questions: Sequence[LabelledQuestion], writer: RecordWriter
) -> Sequence[LabelledQuestion]:
    """Return the questions that the record file does not hold yet.

    Raises:
        ConfigError: The file's records are not those of the first questions.
    """
    done = len(writer.written)
    if tuple(question.id for question in questions[:done]) != writer.written:
        raise ConfigError(
            "records: must begin with the data's questions, skipped lines left out, in the same "
            "order, do not; name another file"
        )
    return questions[done:]


def record_all(
    questions: Sequence[LabelledQuestion],
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
        cloud: Asked where the data knows nothing of the cloud.
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


def _with_cloud(
    pairs: Iterable[tuple[LabelledQuestion, Record]], cloud: CloudClient
) -> Iterator[Record]:
    for question, record in pairs:
        if record.cloud_correct is not None:
            yield record
            continue
        text = cloud.complete(question.question).text
        asked = replace(question, cloud_answer=text)
        yield replace(record, cloud_answer=text, cloud_correct=asked.cloud_is_right)
