"""How many decisions each recipe changes, on the tiny FogGen's held-out questions.

Writes results/tiny-flips.json and .md; run as `python -m benchmarks.flips` (`make flips`).
"""

import json
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.machine import write_results
from foggen_exporter.bundle.contents import GRAPH_FILE
from foggen_exporter.recipes.recipe import RECIPES
from foggen_runtime import EngineOptions, Foggen, OpenOptions, Result
from foggen_runtime.statistics.intervals import upper_bound
from tests.support.export import export_bundle

TINY = Path(__file__).parent.parent / "tests" / "tiny_foggen"
TAU = 0.5


@dataclass(frozen=True)
class Row:
    """One recipe against fp32, in shares of all questions.

    Attributes:
        flips_at_most: The exact one-sided 95 % upper bound of the flip rate.
        weights_mb: The size of the weights' file.
    """

    recipe: str
    weights_mb: float
    flips: float
    flips_at_most: float
    level_changes: float
    answer_agreement: float
    local_accuracy: float
    deferred: float


def ask_all(bundle: Path, questions: Sequence[str]) -> list[Result]:
    """Return the local result of every question, whatever its confidence."""
    options = OpenOptions(engine=EngineOptions(threads=1))
    with Foggen.open(bundle, options=options) as foggen:
        return [foggen.ask(question, route="local_only") for question in questions]


def defers(result: Result) -> bool:
    """Whether the question would go to the cloud."""
    return result.confidence is None or result.confidence < TAU


def compare(
    bundle: Path, results: Sequence[Result], reference: Sequence[Result], letters: Sequence[str]
) -> Row:
    """Return a recipe's row.

    Args:
        bundle: Its bundle, in a directory of its name.
        results: Its results.
        reference: The results in fp32.
        letters: The right answers.
    """
    pairs = list(zip(results, reference, strict=True))
    count = len(pairs)
    flips = sum(defers(a) != defers(b) for a, b in pairs)
    return Row(
        recipe=bundle.name,
        weights_mb=(bundle / f"{GRAPH_FILE}.data").stat().st_size / 1e6,
        flips=flips / count,
        flips_at_most=upper_bound(flips, count),
        level_changes=sum(a.confidence != b.confidence for a, b in pairs) / count,
        answer_agreement=sum(a.choice == b.choice for a, b in pairs) / count,
        local_accuracy=sum(a.choice == b for a, b in zip(results, letters, strict=True)) / count,
        deferred=sum(defers(result) for result in results) / count,
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| recipe | weights MB | flips | at most | level changes | answers agree "
        "| local accuracy | deferred |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {row.recipe} | {row.weights_mb:.2f} | {row.flips:.2%} | {row.flips_at_most:.2%} "
        f"| {row.level_changes:.2%} "
        f"| {row.answer_agreement:.2%} | {row.local_accuracy:.2%} | {row.deferred:.2%} |"
        for row in rows
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Export every recipe, ask every question and write the results."""
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    questions, letters = [e["question"] for e in entries], [e["answer"] for e in entries]
    with tempfile.TemporaryDirectory() as directory:
        bundles = [
            export_bundle(TINY / "checkpoint", Path(directory) / recipe, recipe)
            for recipe in RECIPES
        ]
        results = {bundle: ask_all(bundle, questions) for bundle in bundles}
        reference = results[Path(directory) / "fp32"]
        rows = [compare(*pair, reference, letters) for pair in results.items()]
    document = {
        "machine": platform.machine(),
        "onnxruntime": version("onnxruntime"),
        "tau": TAU,
        "questions": len(questions),
        "rows": [asdict(row) for row in rows],
    }
    write_results("tiny-flips", document, table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
