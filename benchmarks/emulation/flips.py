"""How many decisions change on emulated processors, on the tiny FogGen's held-out questions.

Takes hours; interrupted, it goes on with the next run. Writes results/<machine>-emulated-flips.json
and .md; run as `python -m benchmarks.emulation.flips` (`make emulated-flips`).
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from benchmarks.emulation.arm64_root import Arm64Root
from benchmarks.emulation.decisions import Decided
from benchmarks.emulation.difference import differ
from benchmarks.emulation.machines import MACHINES, NATIVE, TINY, Asker, EmulationError, Run
from benchmarks.emulation.report import Report, Row
from benchmarks.machine import machine_kind, write_results
from benchmarks.workspace import REPOSITORY
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.recipes.recipe import RECIPES, Recipe
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint

TAU = 0.5
QUESTIONS = 1200
KEPT = REPOSITORY / "work" / "emulated"
REFERENCE = Run("fp32", NATIVE)


def without_zero_points(recipe: Recipe) -> Recipe:
    """Return the recipe with symmetric blocks, which KleidiAI takes over on ARM."""
    return replace(
        recipe,
        name=f"{recipe.name}-symmetric",
        layers=replace(recipe.layers, symmetric=True),
        embedding=replace(recipe.embedding, symmetric=True),
    )


def planned(recipes: Sequence[str], symmetric: str) -> list[Run]:
    """Return every run, in the order of the tables."""
    runs = [Run(recipe, machine) for recipe in recipes for machine in MACHINES]
    return [
        *runs,
        Run("int4", "cortex-a76", kleidiai=False),
        Run(symmetric, NATIVE),
        Run(symmetric, "cortex-a76"),
        Run(symmetric, "cortex-a76", kleidiai=False),
    ]


def export(recipe: Recipe, directory: Path) -> Path:
    """Export the tiny FogGen."""
    directory.mkdir()
    settings = ExportSettings(recipe, load_template("mcq"))
    checkpoint = Checkpoint.open(TINY / "checkpoint")
    for _ in Export.of(checkpoint, Origin("tiny-foggen"), settings, directory).steps():
        pass
    return directory


def ask_everywhere(
    runs: Sequence[Run], asker: Asker, bundles: Mapping[str, Path], jobs: int
) -> tuple[dict[Run, list[Decided]], list[str]]:
    """Return the decisions of each run that succeeded, and why others did not."""
    found: dict[Run, list[Decided]] = {}
    failures: list[str] = []

    def ask(run: Run) -> None:
        started = time.monotonic()
        try:
            found[run] = asker.ask(run, bundles[run.recipe])
            outcome = f"{run}: {time.monotonic() - started:.0f} s"
        except EmulationError as error:
            outcome = str(error)
            failures.append(outcome)
        done = len(found) + len(failures)
        print(f"{done}/{len(runs)} {outcome}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(ask, runs))
    return found, failures


def rows_of(runs: Sequence[Run], found: Mapping[Run, Sequence[Decided]]) -> tuple[Row, ...]:
    """Compare every run that has its references."""
    return tuple(
        Row(
            run.recipe,
            run.machine,
            run.kleidiai,
            against_native=differ(found[run], found[Run(run.recipe, NATIVE)]),
            against_fp32=differ(found[run], found[REFERENCE]),
        )
        for run in runs
        if {run, Run(run.recipe, NATIVE)} <= found.keys()
    )


def measure(questions: int, jobs: int, *, only_kept: bool) -> Report:
    """Export every recipe, ask everywhere and compare.

    Args:
        questions: Ask so many, the first of the held-out ones.
        jobs: Machines emulated at a time.
        only_kept: Compare what was asked before, and ask nothing more.

    Raises:
        EmulationError: Not even fp32 runs on this machine.
    """
    symmetric = without_zero_points(RECIPES["int4"])
    runs = planned(list(RECIPES), symmetric.name)
    root = Arm64Root()
    root.make()
    with tempfile.TemporaryDirectory() as directory:
        bundles = {
            recipe.name: export(recipe, Path(directory) / recipe.name)
            for recipe in (*RECIPES.values(), symmetric)
        }
        asker = Asker(root, questions, TAU, KEPT, only_kept)
        found, failures = ask_everywhere(runs, asker, bundles, jobs)
    if REFERENCE not in found:
        raise EmulationError("; ".join(failures))
    return Report(
        native=machine_kind(),
        emulator=root.emulator_version(),
        onnxruntime=version("onnxruntime"),
        tau=TAU,
        questions=len(found[REFERENCE]),
        rows=rows_of(runs, found),
        failures=tuple(failures),
    )


def main() -> None:
    """Read the command line, measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    parser.add_argument("--jobs", type=int, default=2, help="machines emulated at a time")
    parser.add_argument("--only-kept", action="store_true", help="ask nothing more")
    arguments = parser.parse_args()
    report = measure(arguments.questions, arguments.jobs, only_kept=arguments.only_kept)
    write_results(f"{report.native}-emulated-flips", asdict(report), report.page())
    print(report.page())


if __name__ == "__main__":
    main()
