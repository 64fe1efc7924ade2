"""How an evaluation's throughput grows with workers: processes, and actors of a local Ray cluster.

By default on the tiny FogGen, whose questions take milliseconds: what shows is the price of handing
them out. Another bundle is given with `--bundle`. Writes results/evaluation-workers.json and .md;
run as `python -m benchmarks.evaluation_workers` (`make evaluation-workers`), Ray installed.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.evaluation import CHECKPOINT
from benchmarks.machine import machine, write_results
from foggen_runtime import EngineOptions, OpenOptions
from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.evaluation.answering import Job
from foggen_runtime.evaluation.executors import Executor, OneProcess, ProcessPool
from foggen_runtime.evaluation.ray_executor import RayActors
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.text.questions import Question, read_questions
from tests.support.export import export_bundle

DATA = CHECKPOINT.parent / "heldout.jsonl"
ROUNDS = 2

EXECUTORS: tuple[tuple[str, int, Callable[[Job], Executor]], ...] = (
    ("this process", 1, OneProcess),
    ("processes", 1, lambda job: ProcessPool(job, 1)),
    ("processes", 2, lambda job: ProcessPool(job, 2)),
    ("Ray actors", 1, lambda job: RayActors(job, 1)),
    ("Ray actors", 2, lambda job: RayActors(job, 2)),
)


@dataclass(frozen=True)
class Row:
    """One executor's best of all rounds.

    Attributes:
        executor: What answers.
        workers: How many.
        first_record_seconds: Until the first record, starting included.
        questions_per_second: After the first record.
        load_average: The machine's when the best round ended.
    """

    executor: str
    workers: int
    first_record_seconds: float
    questions_per_second: float
    load_average: float


def measure(name: str, workers: int, executor: Executor, questions: Sequence[Question]) -> Row:
    """Answer every question once."""
    start = time.perf_counter()
    records = executor.records(questions)
    next(records)
    first = time.perf_counter()
    count = sum(1 for _ in records)
    rate = count / (time.perf_counter() - first)
    print(f"{name} {workers}: {rate:.1f} questions/s", file=sys.stderr, flush=True)
    return Row(name, workers, first - start, rate, os.getloadavg()[0])


def main() -> None:
    """Measure every executor in turn, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--questions", type=int, default=1200)
    arguments = parser.parse_args()
    questions = read_questions(DATA, labelled=True).questions[: arguments.questions]
    with tempfile.TemporaryDirectory() as directory:
        bundle = arguments.bundle or export_bundle(CHECKPOINT, Path(directory) / "int4", "int4")
        name = Manifest.load(bundle).model.name
        options = OpenOptions(EngineOptions(threads=1, spinning=False))
        job = Job(bundle.resolve(), options, Decoding())
        best: dict[tuple[str, int], Row] = {}
        for _ in range(ROUNDS):
            for kind, workers, make in EXECUTORS:
                row = measure(kind, workers, make(job), questions)
                known = best.get((kind, workers))
                if known is None or row.questions_per_second > known.questions_per_second:
                    best[kind, workers] = row
    rows = list(best.values())
    document = {
        "machine": machine(),
        "bundle": "the tiny FogGen, int4" if arguments.bundle is None else name,
        "questions": len(questions),
        "rows": [asdict(row) for row in rows],
    }
    lines = [
        f"{document['bundle']}, {len(questions)} questions, one thread each, best of {ROUNDS} "
        f"rounds, on {os.cpu_count()} cores shared with other work (load averages in the table).",
        "",
        "| executor | workers | questions/s | seconds to the first record | load average |",
        "|---|---|---|---|---|",
        *(
            f"| {row.executor} | {row.workers} | {row.questions_per_second:.0f} "
            f"| {row.first_record_seconds:.1f} | {row.load_average:.1f} |"
            for row in rows
        ),
    ]
    write_results("evaluation-workers", document, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
