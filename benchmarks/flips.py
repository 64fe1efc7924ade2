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

from foggen_exporter.recipes import RECIPES
from foggen_runtime import EngineOptions, Foggen, OpenOptions, Result
from tests.support.export import export_bundle

TINY = Path(__file__).parent.parent / "tests" / "tiny_foggen"
RESULTS = Path(__file__).parent / "results"
TAU = 0.5


@dataclass(frozen=True)
class Row:
    """One recipe against fp32, in shares of all questions."""

    recipe: str
    flips: float
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
    recipe: str, results: Sequence[Result], reference: Sequence[Result], letters: Sequence[str]
) -> Row:
    """Return a recipe's row.

    Args:
        recipe: Its name.
        results: Its results.
        reference: The results in fp32.
        letters: The right answers.
    """
    pairs = list(zip(results, reference, strict=True))
    count = len(pairs)
    return Row(
        recipe=recipe,
        flips=sum(defers(a) != defers(b) for a, b in pairs) / count,
        level_changes=sum(a.confidence != b.confidence for a, b in pairs) / count,
        answer_agreement=sum(a.choice == b.choice for a, b in pairs) / count,
        local_accuracy=sum(a.choice == b for a, b in zip(results, letters, strict=True)) / count,
        deferred=sum(defers(result) for result in results) / count,
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| recipe | flips | level changes | answers agree | local accuracy | deferred |",
        "|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {row.recipe} | {row.flips:.2%} | {row.level_changes:.2%} "
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
        results = {
            recipe: ask_all(
                export_bundle(TINY / "checkpoint", Path(directory) / recipe, recipe), questions
            )
            for recipe in RECIPES
        }
    rows = [compare(name, found, results["fp32"], letters) for name, found in results.items()]
    document = {
        "machine": platform.machine(),
        "onnxruntime": version("onnxruntime"),
        "tau": TAU,
        "questions": len(questions),
        "rows": [asdict(row) for row in rows],
    }
    (RESULTS / "tiny-flips.json").write_text(json.dumps(document, indent=2) + "\n")
    (RESULTS / "tiny-flips.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
