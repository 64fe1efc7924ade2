"""What recipes do to a real pretrained network: how far its choices move from fp32's.

The tiny FogGen is kinder than the world: on a real network the first tokens carry activations
hundreds of times larger than all others, and recipes that look alike on the toy lie far apart.
Each prompt is a question with a whole reply; on the rows where the template is written, the
Kullback-Leibler divergence from fp32 and the share of rows with the same likeliest token count.

Writes results/real-NETWORK.json and .md, variant by variant, and goes on where it stopped; run as
`python -m benchmarks.real_network --questions FILE` (`make real-recipes QUESTIONS=FILE`).
"""

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.machine import RESULTS, machine, write_results
from benchmarks.real_checkpoint import NETWORKS, real_checkpoint
from benchmarks.workspace import workspace_argument
from foggen_exporter.bundle.contents import GRAPH_FILE
from foggen_exporter.calibration.calibration import calibration_prompts
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.recipes.recipe import Recipe, find_recipe
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime import EngineOptions
from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.model.engine import ONNXRUNTIME_VERSION
from foggen_runtime.model.local_model import LocalModel, OpenOptions
from foggen_runtime.text.questions import read_questions

_COMMAND = "python -m benchmarks.real_network --network {} --questions FILE"


@dataclass(frozen=True)
class Variant:
    """A recipe, or one with a piece taken away or put in.

    Attributes:
        name: What the table calls it.
        recipe: How weights are stored.
        snapshot: Whether the bundle has the prefix's cache in fp32.
    """

    name: str
    recipe: Recipe
    snapshot: bool = True


@dataclass(frozen=True)
class Row:
    """A variant beside fp32.

    Attributes:
        bits: Of a weight, in the whole file of weights.
        divergence: Nats, the mean over all rows: KL(fp32 || variant).
        same_choice: The share of rows with fp32's likeliest token.
        seconds: What exporting took.
    """

    variant: str
    bits: float
    divergence: float
    same_choice: float
    seconds: float


def variants() -> Iterator[Variant]:
    """Yield what is measured: first the recipes, then what each piece of them is worth."""
    int8, int4 = find_recipe("int8"), find_recipe("int4-gptq")
    for name in ("int4-gptq", "int8", "int4", "int8-weight"):
        yield Variant(name, find_recipe(name))
    yield Variant("int4-gptq, 8-bit embedding and head", replace(int4, embedding=int8.embedding))
    for size in (64, 32):
        yield Variant(f"int4-gptq, blocks of {size}", int4.with_blocks(size, symmetric=False))
    for recipe in (int8, int4):
        yield Variant(f"{recipe.name}, no snapshot", recipe, snapshot=False)
        unfolded = replace(recipe, smoothing=False)
        yield Variant(f"{recipe.name}, not folded", unfolded)
        yield Variant(f"{recipe.name}, neither", unfolded, snapshot=False)
    yield Variant("int4-mixed", find_recipe("int4-mixed"))


def log_shares(bundle: Path, questions: Sequence[str]) -> Iterator[Float32]:
    """Ask each question with a whole reply; yield the logarithms of its rows' token shares.

    Yields:
        (rows, vocabulary) for each question.
    """
    model = LocalModel(Bundle.open(bundle), OpenOptions(EngineOptions(threads=1)))
    manifest, engine = model.bundle.manifest, model.engine
    texts = calibration_prompts(
        questions, model.tokenizer, manifest.prompt, manifest.template, engine.logits_tail
    )
    for suffix in texts.suffixes:
        engine.cache.truncate(model.prefix_length)
        ids = (*texts.prefix_ids, *suffix)[model.prefix_length :]
        logits = engine.forward(ids)
        logits -= logits.max(axis=-1, keepdims=True)
        yield logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def compare(found: Iterable[Float32], expected: Sequence[Float32]) -> tuple[float, float]:
    """Return the mean divergence from what is expected, and the share of the same choices."""
    divergences, same = [], []
    for one, other in zip(found, expected, strict=True):
        divergences.append((np.exp(other) * (other - one)).sum(axis=-1))
        same.append(one.argmax(axis=-1) == other.argmax(axis=-1))
    return float(np.mean(divergences)), float(np.mean(same))


def export_variant(checkpoint: Path, variant: Variant, directory: Path) -> float:
    """Export it, and return how many seconds that took."""
    started = time.perf_counter()
    settings = ExportSettings(
        variant.recipe, load_template("mcq"), prefix_snapshot=variant.snapshot
    )
    export = Export.of(Checkpoint.open(checkpoint), Origin(checkpoint.name), settings, directory)
    for _ in export.steps():
        pass
    return time.perf_counter() - started


def page(network: str, questions: int, rows: Sequence[Row]) -> str:
    """Return the results as Markdown."""
    return f"""# Recipes on {network}

`{_COMMAND.format(network)}`, {questions} questions. KL is the mean
divergence from fp32, in nats, over the rows where the template is written; *same choice* the share
of those rows whose likeliest token is fp32's; bits are those of the weights' file, rotary tables
and all. Where 128 does not divide a matrix, its blocks are of 64.

{table(rows)}"""


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = ["| variant | bits a weight | KL | same choice | s |", "|---|---|---|---|---|"]
    lines.extend(
        f"| {row.variant} | {row.bits:.2f} | {row.divergence:.4f} | {row.same_choice:.1%} "
        f"| {row.seconds:.0f} |"
        for row in rows
    )
    return "\n".join(lines) + "\n"


def weight_count(checkpoint: Path) -> int:
    """Return how many weights a checkpoint has; an output head that is tied counts once."""
    source = Checkpoint.open(checkpoint)
    return sum(math.prod(entry.shape) for entry in source.files.entries.values())


class Measuring:
    """Measures variants of one checkpoint, each beside fp32.

    Attributes:
        questions: What they are asked.
    """

    def __init__(self, checkpoint: Path, questions: Sequence[str], workspace: Path) -> None:
        """Ask fp32.

        Args:
            checkpoint: The network.
            questions: What to ask.
            workspace: Where bundles lie while they are asked.
        """
        self.questions = questions
        self._checkpoint, self._workspace = checkpoint, workspace
        self._weights = weight_count(checkpoint)
        with tempfile.TemporaryDirectory(dir=workspace) as directory:
            export_variant(checkpoint, Variant("fp32", find_recipe("fp32")), Path(directory))
            self._expected = list(log_shares(Path(directory), questions))

    def row(self, variant: Variant) -> Row:
        """Export a variant, ask it and throw it away."""
        with tempfile.TemporaryDirectory(dir=self._workspace) as name:
            directory = Path(name)
            seconds = export_variant(self._checkpoint, variant, directory)
            size = (directory / f"{GRAPH_FILE}.data").stat().st_size
            found = log_shares(directory, self.questions)
            divergence, same = compare(found, self._expected)
        return Row(variant.name, 8 * size / self._weights, divergence, same, seconds)


def main() -> None:
    """Measure what is not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    parser.add_argument("--network", choices=NETWORKS, default="smollm2")
    parser.add_argument("--questions", type=Path, required=True, help="JSON Lines to ask")
    parser.add_argument("--count", type=int, default=200, help="how many of them")
    arguments = parser.parse_args()
    checkpoint = real_checkpoint(arguments.work, NETWORKS[arguments.network])
    asked = read_questions(arguments.questions).questions[: arguments.count]
    measuring = Measuring(
        checkpoint, [question.question for question in asked], arguments.work.root
    )
    name = f"real-{arguments.network}"
    rows = _measured(RESULTS / f"{name}.json")
    for variant in variants():
        if variant.name in {row.variant for row in rows}:
            continue
        rows.append(measuring.row(variant))
        document = {
            "machine": machine(),
            "onnxruntime": ONNXRUNTIME_VERSION,
            "network": arguments.network,
            "questions": len(asked),
            "rows": [asdict(row) for row in rows],
        }
        write_results(name, document, page(arguments.network, len(asked), rows))
        print(table(rows[-1:]), flush=True)


def _measured(results: Path) -> list[Row]:
    if not results.exists():
        return []
    return [Row(**row) for row in json.loads(results.read_text(encoding="utf-8"))["rows"]]


if __name__ == "__main__":
    main()
