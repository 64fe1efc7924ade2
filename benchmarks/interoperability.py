"""Do onnxruntime-genai and transformers.js write our engine's greedy tokens at full size?

Random weights of Qwen3-0.6B's shape, exported with `--genai`; needs what `make test-languages`
fetches. Writes results/interoperability.json and .md; run as
`python -m benchmarks.interoperability` (`make interoperability`).
"""

import argparse
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import machine, write_results
from benchmarks.prompts import Prompts
from benchmarks.workspace import REPOSITORY, Workspace, workspace_argument
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.recipes.recipe import RECIPES
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.decide.plain import greedy_steps
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.local_model import LocalModel, OpenOptions

SCRIPTS = REPOSITORY / "tests" / "languages"
FETCHED = REPOSITORY / "work" / "languages"
RECIPES_COMPARED = ("int4", "int8")
PROMPTS = 5
NEW_TOKENS = 32


@dataclass(frozen=True)
class Row:
    """How many prompts have the same tokens in another runtime."""

    recipe: str
    runtime: str
    prompts: int
    same: int


def export(workspace: Workspace, recipe: str) -> Path:
    """Export the random checkpoint for onnxruntime-genai, anew."""
    directory = workspace.model(f"genai-{recipe}")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    settings = ExportSettings(RECIPES[recipe], load_template("mcq"), genai=True)
    checkpoint = Checkpoint.open(workspace.checkpoint)
    for _ in Export.of(checkpoint, Origin("random"), settings, directory).steps():
        pass
    return directory


def ours(bundle: Path) -> tuple[list[list[int]], list[list[int]]]:
    """Return prompts, and what our engine writes after each, step by step."""
    model = LocalModel(Bundle.open(bundle), OpenOptions(EngineOptions(threads=2)))
    prompts = Prompts(0).questions(PROMPTS, model.bundle.manifest.prompt)
    eos = model.bundle.manifest.model.eos_token_ids
    written = []
    for prompt in prompts:
        model.engine.cache.truncate(0)
        first = int(model.engine.forward(prompt)[-1].argmax())
        written.append([first, *greedy_steps(model.engine, first, NEW_TOKENS - 1, eos)])
    return prompts, written


def theirs(command: Sequence[str | Path], prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return what another runtime writes."""
    done = subprocess.run(
        command, input=json.dumps(prompts), stdout=subprocess.PIPE, text=True, check=True
    )
    written: list[list[int]] = json.loads(done.stdout.splitlines()[-1])
    return written


def compare(recipe: str, bundle: Path) -> list[Row]:
    """Compare both runtimes with our engine."""
    prompts, expected = ours(bundle)
    script = shutil.copy(SCRIPTS / "tokens.mjs", FETCHED / "node")
    arguments: tuple[str | Path, ...] = (bundle, str(NEW_TOKENS))
    commands: dict[str, list[str | Path]] = {
        "onnxruntime-genai": [
            FETCHED / "genai" / "bin" / "python",
            SCRIPTS / "genai_tokens.py",
            *arguments,
        ],
        "transformers.js": ["node", Path(script), *arguments],
    }
    return [
        Row(
            recipe,
            name,
            len(prompts),
            sum(a == b for a, b in zip(theirs(command, prompts), expected, strict=True)),
        )
        for name, command in commands.items()
    ]


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "# Greedy tokens in other runtimes, full size",
        "",
        f"Random weights of Qwen3-0.6B's shape, {PROMPTS} prompts of 160 tokens, {NEW_TOKENS} "
        "tokens each. Made by `python -m benchmarks.interoperability`.",
        "",
        "| recipe | runtime | prompts | same tokens |",
        "|---|---|---|---|",
    ]
    lines.extend(f"| {row.recipe} | {row.runtime} | {row.prompts} | {row.same} |" for row in rows)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compare and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    workspace: Workspace = parser.parse_args().work
    rows = [
        row for recipe in RECIPES_COMPARED for row in compare(recipe, export(workspace, recipe))
    ]
    document = {"machine": machine(), "rows": [asdict(row) for row in rows]}
    write_results("interoperability", document, table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
