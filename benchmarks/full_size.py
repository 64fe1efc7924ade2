"""Export and ask a random checkpoint of Qwen3-0.6B's exact shape: time, memory, sizes.

Every figure is of a whole process, as the operating system accounts for it, in an environment as
`pip install 'foggen[export]'` makes it: where torch is installed, transformers imports it. Writes
results/full-size.json and .md; run as `python -m benchmarks.full_size` (`make full-size`).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.machine import RESULTS, machine_kind, write_results
from benchmarks.workspace import Workspace, workspace_argument
from foggen_exporter.recipes.recipe import RECIPES
from foggen_runtime.jsonio import from_json

QUESTION = "Which planet is the largest?\nA) Mars\nB) Jupiter\nC) Venus\nD) Earth"


@dataclass(frozen=True)
class Usage:
    """Wall-clock seconds and peak resident set of one process."""

    seconds: float
    peak_rss_mb: float


@dataclass(frozen=True)
class Row:
    """One recipe: exporting, then asking once from a cold process."""

    recipe: str
    export: Usage
    weights_mb: float
    bundle_mb: float
    ask: Usage
    decision_ms: float


def measure(command: Path, *arguments: str) -> tuple[Usage, str]:
    """Run a command and return what it used and what it printed."""
    started = time.perf_counter()
    process = subprocess.Popen([command, *arguments], stdout=subprocess.PIPE, text=True)
    if process.stdout is None:
        raise RuntimeError(f"{command}: has no standard output to read")
    with process.stdout:
        output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Usage(time.perf_counter() - started, used.ru_maxrss * 1024 / 1e6), output


def measure_recipe(workspace: Workspace, recipe: str, commands: Path) -> Row:
    """Export, then ask; random weights make no sense of the template, so the route is local.

    Args:
        workspace: Has the checkpoint.
        recipe: Its name.
        commands: The directory of `foggen` and `foggen-export`.
    """
    bundle = workspace.root / f"full-{recipe}"
    target = ("--quant", recipe, "-o", str(bundle), "--force", "--json")
    export, _ = measure(commands / "foggen-export", str(workspace.checkpoint), *target)
    question = (str(bundle), QUESTION, "--route", "local_only", "--max-new-tokens", "8", "--json")
    foggen = commands / "foggen"
    measure(foggen, "ask", *question)  # verifies the hashes, and warms the page cache
    ask, output = measure(foggen, "ask", *question)
    sizes = {path.name: path.stat().st_size / 1e6 for path in bundle.iterdir()}
    decision = json.loads(output)["timing_ms"]["decision"]
    return Row(recipe, export, sizes["model.onnx.data"], sum(sizes.values()), ask, decision)


def table(rows: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| recipe | export s | export peak RSS MB | weights MB | bundle MB "
        "| cold ask s | ask peak RSS MB | decision ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {row.recipe} | {row.export.seconds:.1f} | {row.export.peak_rss_mb:.0f} "
        f"| {row.weights_mb:.1f} | {row.bundle_mb:.1f} | {row.ask.seconds:.2f} "
        f"| {row.ask.peak_rss_mb:.0f} | {row.decision_ms:.0f} |"
        for row in rows
    )
    return "\n".join(lines) + "\n"


def kept_rows(machine: Mapping[str, object]) -> dict[str, Row]:
    """Return the rows that were measured on the same machine before, by recipe."""
    results = RESULTS / "full-size.json"
    if not results.exists():
        return {}
    document = json.loads(results.read_text(encoding="utf-8"))
    if document["machine"] != machine:
        return {}
    rows = [from_json(Row, row, str(results)) for row in document["rows"]]
    return {row.recipe: row for row in rows}


def main() -> None:
    """Measure the recipes that are named, or all, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    parser.add_argument("recipes", nargs="*", help=f"some of {', '.join(RECIPES)}")
    parser.add_argument(
        "--commands",
        type=Path,
        default=Path(sys.executable).parent,
        help="directory of foggen and foggen-export, in an environment without torch",
    )
    arguments = parser.parse_args()
    workspace: Workspace = arguments.work
    subprocess.run(
        [sys.executable, "-m", "benchmarks.checkpoint", "--work", workspace.root], check=True
    )
    recipes = arguments.recipes or RECIPES
    machine = {
        "machine": machine_kind(),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "foggen": version("foggen"),
    }
    found = {recipe: measure_recipe(workspace, recipe, arguments.commands) for recipe in recipes}
    found = kept_rows(machine) | found
    rows = [found[recipe] for recipe in RECIPES if recipe in found]
    document = {"machine": machine, "rows": [asdict(row) for row in rows]}
    write_results("full-size", document, f"On {machine['machine']}.\n\n{table(rows)}")
    print(table(rows))


if __name__ == "__main__":
    main()
