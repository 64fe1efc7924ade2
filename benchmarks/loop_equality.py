"""Does loop.onnx decide and write as the host's loop does, on every held-out question?

The tiny FogGen, each recipe, five thresholds; the host decodes in constrained mode with the prefix
snapshot. Writes results/loop-equality.json and .md; run as `python -m benchmarks.loop_equality`
(`make loop-equality`).
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.inner_loop import InnerLoop, Outcome
from benchmarks.machine import machine, write_results
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.graphs.loop import LOOP_FILE
from foggen_exporter.recipes.recipe import RECIPES
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.local_model import LocalModel, OpenOptions

TINY = Path(__file__).parent.parent / "tests" / "tiny_foggen"
TAUS = (0.0, 0.25, 0.5, 0.75, 1.0)
MAX_NEW_TOKENS = 64


@dataclass(frozen=True)
class Row:
    """One recipe at one threshold: how many questions differ in what."""

    recipe: str
    tau: float
    questions: int
    deferred: int
    different_level: int
    different_decision: int
    different_tokens: int


@dataclass(frozen=True)
class Written:
    """What the host's loop writes if it answers, and whether tau alone keeps it from answering."""

    confidence: float
    well_formed: bool
    span: tuple[int, ...]
    answer: tuple[int, ...]

    def outcome(self, tau: float) -> Outcome:
        """Return what is expected of the inner loop."""
        deferred = self.confidence < tau or not self.well_formed
        tokens = self.span if deferred else (*self.span, *self.answer)
        return Outcome(tokens, self.confidence, deferred)


def host_written(model: LocalModel, ids: Sequence[int]) -> Written:
    """Decide and answer with the host's loop."""
    template = model.bundle.manifest.template
    decoder = model.decoder(Decoding())
    decision = decoder.decide(ids[model.prefix_length :])
    if decision.level is None or decision.reading is None:
        raise RuntimeError("constrained decoding gave no level")
    return Written(
        template.level_values[decision.level],
        (decision.reading.template_probability or 0.0) >= template.min_template_probability,
        decision.tokens,
        tuple(decoder.answer(MAX_NEW_TOKENS)),
    )


def export(recipe: str, directory: Path) -> Path:
    """Export the tiny FogGen with its loop."""
    directory.mkdir()
    settings = ExportSettings(RECIPES[recipe], load_template("mcq"), loop=True)
    checkpoint = Checkpoint.open(TINY / "checkpoint")
    for _ in Export.of(checkpoint, Origin("tiny-foggen"), settings, directory).steps():
        pass
    return directory


def compare(recipe: str, bundle: Path, questions: Sequence[str]) -> list[Row]:
    """Ask every question of both loops."""
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    model = LocalModel(Bundle.open(bundle), options)
    prompt = model.bundle.manifest.prompt
    prompts = [model.tokenizer.prompt_ids(prompt, question) for question in questions]
    host = [host_written(model, ids) for ids in prompts]
    inner = InnerLoop(bundle / LOOP_FILE, threads=1)
    rows = []
    for tau in TAUS:
        pairs = [
            (inner.ask(ids, tau, MAX_NEW_TOKENS), written.outcome(tau))
            for ids, written in zip(prompts, host, strict=True)
        ]
        rows.append(
            Row(
                recipe,
                tau,
                questions=len(pairs),
                deferred=sum(expected.deferred for _, expected in pairs),
                different_level=sum(a.confidence != b.confidence for a, b in pairs),
                different_decision=sum(a.deferred != b.deferred for a, b in pairs),
                different_tokens=sum(a.token_ids != b.token_ids for a, b in pairs),
            )
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "# loop.onnx against the host's loop",
        "",
        "The tiny FogGen's held-out questions. Made by `python -m benchmarks.loop_equality`.",
        "",
        "| recipe | tau | questions | deferred | other level | other decision | other tokens |",
        "|---|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {row.recipe} | {row.tau:g} | {row.questions} | {row.deferred} "
        f"| {row.different_level} | {row.different_decision} | {row.different_tokens} |"
        for row in rows
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compare every recipe and write the results."""
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as directory:
        for recipe in RECIPES:
            rows += compare(recipe, export(recipe, Path(directory) / recipe), questions)
    document = {
        "machine": machine(),
        "onnxruntime": version("onnxruntime"),
        "rows": [asdict(row) for row in rows],
    }
    write_results("loop-equality", document, table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
