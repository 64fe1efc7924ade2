"""Our engine side by side with its peers, a fresh process for each engine in each round.

Engines take turns (A B C, A B C, …), because the speed of a shared machine drifts; ratios are of
the same round.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

from benchmarks.machine import machine, machine_kind, write_results
from benchmarks.outcome import Outcome, Run
from benchmarks.peers.measuring import Measurement, Request
from benchmarks.prompts import Prompts
from benchmarks.report import markdown
from benchmarks.rows import ROWS, Row
from benchmarks.workspace import REPOSITORY, Workspace, size_mb, workspace_argument
from foggen_runtime.bundle.manifest import Manifest

THREADS = 2


def start_process(workspace: Workspace, row: Row, request: Request) -> Run:
    """Measure one row in a process of its own.

    Raises:
        RuntimeError: The process failed; the message is the end of what it said.
    """
    command = [str(workspace.python(row.venv)), "-m", f"benchmarks.peers.{row.module}"]
    text = json.dumps(asdict(request))
    start = time.monotonic()
    done = subprocess.run(
        command, input=text, cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-500:] or f"exit status {done.returncode}")
    measurement = Measurement(**json.loads(done.stdout.splitlines()[-1]))
    return Run(measurement.first_decision - start, measurement)


def make_request(workspace: Workspace, seed: int, questions: int) -> Request:
    """Make the prompts of one round; the model is still to be filled in."""
    manifest = Manifest.load(workspace.model("foggen-int4"))
    prompts = Prompts(seed)
    return Request(
        model="",
        option="",
        threads=THREADS,
        prefix_length=len(manifest.prompt.prefix_ids),
        level_ids=[list(ids) for ids in manifest.template.level_ids],
        questions=prompts.questions(2 + questions, manifest.prompt),
        pp128=prompts.texts(3, 128),
        pp512=prompts.texts(3, 512),
    )


def measure_round(workspace: Workspace, outcomes: Sequence[Outcome], base: Request) -> None:
    """Run every row once, in order."""
    for outcome in outcomes:
        row = outcome.row
        if outcome.failure:
            continue
        model = str(workspace.model(row.model))
        request = replace(base, model=model, option=row.option)
        if not row.writes_text:
            request = replace(request, pp128=[], pp512=[])
        try:
            outcome.runs.append(start_process(workspace, row, request))
        except RuntimeError as error:
            outcome.failure = str(error)
            print(f"{row.name}: {error}", file=sys.stderr)
            continue
        latest = {name: round(outcome.rounds(name)[-1]) for name in ("decision_ms", "letter_ms")}
        print(f"{row.name}: {latest}", file=sys.stderr, flush=True)


def prepare(workspace: Workspace, row: Row) -> Outcome:
    """Look up a row's version and the size of its model."""
    script = f"import importlib.metadata as m; print(m.version({row.package!r}))"
    version = subprocess.check_output([workspace.python(row.venv), "-c", script], text=True)
    return Outcome(row, version.strip(), size_mb(workspace.model(row.model)))


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=4, help="measured in each round")
    parser.add_argument("--name", default=machine_kind(), help="of the files in results/")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    arguments = parser.parse_args()
    workspace: Workspace = arguments.work
    rows = [row for row in ROWS if arguments.only in row.name]
    outcomes = [prepare(workspace, row) for row in rows]
    before = machine()
    for seed in range(arguments.rounds):
        print(f"round {seed + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
        turn = seed * len(outcomes) // arguments.rounds  # no engine always follows the same one
        order = [*outcomes[turn:], *outcomes[:turn]]
        measure_round(workspace, order, make_request(workspace, seed, arguments.questions))
    document = {
        "machine": before,
        "settings": {"threads": THREADS, "rounds": arguments.rounds},
        "rows": [asdict(outcome) for outcome in outcomes],
    }
    write_results(arguments.name, document, markdown(before, outcomes))


if __name__ == "__main__":
    main()
