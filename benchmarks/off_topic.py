"""What the minimum of `template_probability` is good for: text that is no question for the model.

A constrained decision always reads some confidence. This counts how often it would be a confident
one, with the bundle's minimum and without, on held-out questions and on text of other kinds. Writes
results/off-topic.json and .md; run as `python -m benchmarks.off_topic` (`make off-topic`).
"""

import json
import random
import string
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import write_results
from foggen_runtime import EngineOptions, Foggen, OpenOptions, Result
from tests.support.export import export_bundle

TINY = Path(__file__).parent.parent / "tests" / "tiny_foggen"
TAU = 0.5
COUNT = 200

PROSE = {
    "English prose": "The river bends twice before it meets the sea, and on its banks the reeds "
    "stand tall in summer. Nobody in the village remembers who built the bridge, or why.",
    "Kazakh prose": "Өзен теңізге құяр алдында екі рет бұрылады, ал жағасында жазда қамыс биік "
    "өседі. Көпірді кім салғанын ауылда ешкім білмейді.",
    "Russian prose": "Река дважды поворачивает, прежде чем впасть в море, а на её берегах летом "
    "высоко стоит тростник. Никто в деревне не помнит, кто построил мост.",
    "Chinese prose": "河流在入海之前转了两个弯,夏天两岸的芦苇长得很高。"
    "村里没有人记得是谁建了这座桥。",
}


@dataclass(frozen=True)
class Row:
    """One kind of text; shares of its samples."""

    text: str
    samples: int
    confident_without_minimum: float
    confident: float
    median_template_probability: float


def samples() -> dict[str, list[str]]:
    """Return texts by their kind, the same ones every time."""
    generator = random.Random(0)
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    kinds = {"held-out questions": [json.loads(line)["question"] for line in lines[:COUNT]]}
    for kind, prose in PROSE.items():
        kinds[kind] = [piece_of(prose, generator) for _ in range(COUNT)]
    kinds["random ASCII"] = [
        "".join(generator.choices(string.printable[:95], k=generator.randint(5, 120))).strip() + "?"
        for _ in range(COUNT)
    ]
    kinds["random Unicode"] = [
        "".join(chr(generator.randint(0xA1, 0xD7FF)) for _ in range(generator.randint(3, 60)))
        for _ in range(COUNT)
    ]
    kinds["nearly empty"] = [mark * n for mark in "?.!-…\u200b" for n in (1, 2, 3, 8)]
    return kinds


def piece_of(prose: str, generator: random.Random) -> str:
    """Return some of the text, cut at random."""
    start = generator.randrange(len(prose) // 2)
    return prose[start : start + generator.randint(10, len(prose))].strip()


def count(kind: str, results: Sequence[Result]) -> Row:
    """Return one kind's row."""
    without = [result.confidence is not None and result.confidence >= TAU for result in results]
    shares = sorted(result.template_probability or 0.0 for result in results)
    return Row(
        text=kind,
        samples=len(results),
        confident_without_minimum=sum(without) / len(results),
        confident=sum(result.reason == "confident" for result in results) / len(results),
        median_template_probability=shares[len(shares) // 2],
    )


def table(rows: Sequence[Row], minimum: float) -> str:
    """Return the rows as Markdown."""
    lines = [
        f"| text | samples | confident, no minimum | confident, minimum {minimum:g} "
        "| median template probability |",
        "|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {row.text} | {row.samples} | {row.confident_without_minimum:.1%} "
        f"| {row.confident:.1%} | {row.median_template_probability:.3g} |"
        for row in rows
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Ask everything and write the results."""
    options = OpenOptions(engine=EngineOptions(threads=1))
    with tempfile.TemporaryDirectory() as directory:
        bundle = export_bundle(TINY / "checkpoint", Path(directory) / "fp32", "fp32")
        with Foggen.open(bundle, options=options) as foggen:
            minimum = foggen.model.bundle.manifest.template.min_template_probability
            rows = [
                count(kind, [foggen.ask(text, tau=TAU) for text in texts])
                for kind, texts in samples().items()
            ]
    document = {"tau": TAU, "minimum": minimum, "rows": [asdict(row) for row in rows]}
    write_results("off-topic", document, table(rows, minimum))
    print(table(rows, minimum))


if __name__ == "__main__":
    main()
