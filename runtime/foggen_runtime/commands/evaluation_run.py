"""Running a bundle over a data file, with progress on standard error."""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.commands.command_line import interruptible
from foggen_runtime.commands.options import CloudArguments
from foggen_runtime.commands.terminal import note, progress, warn
from foggen_runtime.evaluation.answering import Job
from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.evaluation.executors import Executor, OneProcess, ProcessPool
from foggen_runtime.evaluation.grading import LabelledFile, read_labelled
from foggen_runtime.evaluation.records import Header, RecordWriter
from foggen_runtime.evaluation.running import CloudClient, record_all, remaining
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.local_model import OpenOptions
from foggen_runtime.wording import counted

if TYPE_CHECKING:
    from foggen_runtime.cloud.endpoints import Cloud


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
    decoding: Decoding
    workers: int = 1
    executor: Literal["local", "ray"] = "local"

    def header(self, data_sha256: str, cloud: str | None) -> Header:
        """Return what the records are of."""
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


def recorded(run: Run, cloud: CloudArguments | None = None) -> Decisions:
    """Record what is not recorded yet, and return everything.

    Raises:
        ConfigError: The data or the record file is not as it must be.
        BundleError: The bundle is not.
        EngineError: A question cannot be answered.
        HandoffError: The cloud does not answer.
    """
    data = read_labelled(run.data, skip_bad=run.skip_bad)
    for line in data.bad_lines:
        warn(f"{run.data}: line {line.number} is left out: {line.problem}")
    with ExitStack() as stack:
        path = run.records
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "records.jsonl"
        endpoint = cloud.cloud() if cloud else None
        if endpoint is None:
            return _record(run, path, data, None)
        from foggen_runtime.cloud.client import CloudClient as Client

        return _record(run, path, data, (endpoint, stack.enter_context(Client(endpoint))))


def _record(
    run: Run, path: Path, data: LabelledFile, cloud: "tuple[Cloud, CloudClient] | None"
) -> Decisions:
    model = cloud[0].model if cloud else None
    with RecordWriter(path, run.header(data.sha256, model)) as writer:
        questions = remaining(data.questions, writer)
        if writer.written and questions:
            note(f"{path} holds {counted(len(writer.written), 'record')}, going on")
        label = counted(len(questions), "question")
        with (
            interruptible(lambda: _kept(run, writer)),
            progress(len(questions), label) as advance,
        ):
            record_all(
                questions,
                run.make_executor(),
                writer,
                cloud[1] if cloud else None,
                lambda: advance(1),
            )
    return Decisions.read(path)


def _kept(run: Run, writer: RecordWriter) -> str:
    if run.records is None:
        return "no answer is kept; with --records FILE they are"
    records = counted(writer.count, "record")
    return f"{run.records} holds {records}; the same command goes on from there"
