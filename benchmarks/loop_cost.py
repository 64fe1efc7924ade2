"""Time and memory of loop.onnx against the host's loop, at full size, with and without a snapshot.

A fresh process for each way in each round, in turn. The checkpoint is random, so its template's
minimum is set to 0 to let it answer. Writes results/loop-cost.json and .md; run as
`python -m benchmarks.loop_cost` (`make loop-cost`).
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.loop_process import Times
from benchmarks.machine import machine, write_results
from benchmarks.prompts import Prompts
from benchmarks.workspace import REPOSITORY, Workspace, workspace_argument
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.recipes.recipe import RECIPES
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.bundle.manifest import Manifest

RECIPES_MEASURED = ("int4", "int8")
WAYS = ("host", "loop")
THREADS = 2


@dataclass(frozen=True)
class Way:
    """A bundle and how it is run."""

    recipe: str
    snapshot: bool
    way: str

    @property
    def bundle(self) -> str:
        """The bundle's name in the workspace."""
        return f"loop-{self.recipe}{'' if self.snapshot else '-plain'}"


@dataclass(frozen=True)
class Row:
    """The medians of one way; ratios are to the host's loop on the same bundle, by round."""

    recipe: str
    snapshot: bool
    way: str
    ready_s: float
    decision_ms: float
    answer_ms: float
    peak_rss_mb: float
    decision_ratio: float
    answer_ratio: float
    peak_rss_ratio: float


def export(workspace: Workspace, way: Way) -> Path:
    """Export the random checkpoint with its loop, unless that is done."""
    directory = workspace.model(way.bundle)
    if not (directory / "foggen.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        settings = ExportSettings(
            RECIPES[way.recipe],
            replace(load_template("mcq"), min_template_probability=0.0),
            prefix_snapshot=way.snapshot,
            loop=True,
        )
        checkpoint = Checkpoint.open(workspace.checkpoint)
        for _ in Export.of(checkpoint, Origin("random"), settings, directory).steps():
            pass
    return directory


def measure(bundle: Path, way: str, prompts: Sequence[Sequence[int]]) -> Times:
    """Run one process."""
    command = [sys.executable, "-m", "benchmarks.loop_process", way, str(bundle), str(THREADS)]
    done = subprocess.run(
        command,
        input=json.dumps(prompts),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Times(**json.loads(done.stdout))


def row_of(way: Way, times: Sequence[Times], host: Sequence[Times]) -> Row:
    """Return the medians over the rounds."""

    def median(name: str, of: Sequence[Times]) -> list[float]:
        values = [getattr(one, name) for one in of]
        return [statistics.median(value) if isinstance(value, list) else value for value in values]

    def ratio(name: str) -> float:
        pairs = zip(median(name, times), median(name, host), strict=True)
        return statistics.median(one / other for one, other in pairs)

    names = ("ready_s", "decision_ms", "answer_ms", "peak_rss_mb")
    medians = (statistics.median(median(name, times)) for name in names)
    return Row(way.recipe, way.snapshot, way.way, *medians, *(ratio(name) for name in names[1:]))


def table(rows: Sequence[Row], rounds: int) -> str:
    """Return the rows as Markdown."""
    lines = [
        "# What the loop inside the model costs",
        "",
        f"Random weights of Qwen3-0.6B's shape, prompts of 160 tokens, {THREADS} threads, medians "
        f"of {rounds} rounds of fresh processes; ratios are to the host's loop on the same bundle "
        "in the same round. `answer` writes 64 tokens after the level. "
        "Made by `python -m benchmarks.loop_cost`.",
        "",
        "| recipe | snapshot | loop | open and first decision s | decision ms | answer ms "
        "| peak RSS MB | decision | answer | RSS |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {row.recipe} | {'yes' if row.snapshot else 'no'} "
        f"| {'loop.onnx' if row.way == 'loop' else 'host'} | {row.ready_s:.2f} "
        f"| {row.decision_ms:.0f} | {row.answer_ms:.0f} | {row.peak_rss_mb:.0f} "
        f"| {row.decision_ratio:.2f} | {row.answer_ratio:.2f} | {row.peak_rss_ratio:.2f} |"
        for row in rows
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Export, measure in turn and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=6)
    arguments = parser.parse_args()
    ways = [
        Way(recipe, snapshot, way)
        for recipe in RECIPES_MEASURED
        for snapshot in (True, False)
        for way in WAYS
    ]
    bundles = {way: export(arguments.work, way) for way in ways}
    found: dict[Way, list[Times]] = {way: [] for way in ways}
    for number in range(arguments.rounds):
        prompt = Manifest.load(bundles[ways[0]]).prompt
        prompts = Prompts(number).questions(1 + arguments.prompts, prompt)
        for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
            found[way].append(measure(bundles[way], way.way, prompts))
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
    rows = [row_of(way, found[way], found[replace(way, way="host")]) for way in ways]
    document = {
        "machine": machine(),
        "onnxruntime": version("onnxruntime"),
        "rounds": arguments.rounds,
        "rows": [asdict(row) for row in rows],
    }
    write_results("loop-cost", document, table(rows, arguments.rounds))
    print(table(rows, arguments.rounds))


if __name__ == "__main__":
    main()
