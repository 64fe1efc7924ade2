"""How fast recorded decisions are replayed: 100,000 of them over 101 thresholds.

Writes results/replay.json and .md; run as `python -m benchmarks.replay` (`make replay`).
"""

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.machine import machine, write_results
from foggen_runtime.bundle.manifest import ConfidenceKind
from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.evaluation.records import Header, Record, Tokens
from foggen_runtime.evaluation.routing import Prices, sweep
from foggen_runtime.evaluation.summary import Threshold, summarize
from foggen_runtime.jsonio import dumps

DECISIONS, TAUS, REPETITIONS = 100_000, 101, 5
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """Seconds of one step: the median and the most over repetitions."""

    step: str
    median: float
    most: float


def made_up(number: int, generator: random.Random) -> Record:
    """Return a record of the usual shape."""
    shares = [generator.random() for _ in LEVELS]
    shares = [share / sum(shares) for share in shares]
    level = LEVELS[shares.index(max(shares))]
    right = generator.random() < level
    return Record(
        id=str(number),
        domain=generator.choice(["law", "maths", "physics"]),
        answer="A",
        local_answer="A" if right else "B",
        local_choice="A" if right else "B",
        local_correct=right,
        cloud_answer="A",
        cloud_correct=True,
        confidence=level,
        expected_confidence=sum(map(float.__mul__, LEVELS, shares)),
        level_probabilities=tuple(shares),
        tokens=Tokens(160, 13),
    )


def timed(step: str, action: Callable[[], T]) -> tuple[T, Row]:
    """Repeat an action."""
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        result = action()
        seconds.append(time.perf_counter() - start)
    return result, Row(step, statistics.median(seconds), max(seconds))


def main() -> None:
    """Write made-up records, time reading and replaying them, and write the results."""
    generator = random.Random(0)
    header = Header("made-up", "0" * 64, "int4", LEVELS, "1" * 64)
    taus = np.linspace(0, 1, TAUS).tolist()
    prices = Prices(0.001, 2.0, 8.0)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "records.jsonl"
        lines = [dumps(header), *(dumps(made_up(i, generator)) for i in range(DECISIONS))]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        size = path.stat().st_size
        decisions, reading = timed("reading the file", lambda: Decisions.read(path))
    rows = [reading]
    kinds: tuple[ConfidenceKind, ...] = ("verbalized", "expected")
    for kind in kinds:
        step = f"replaying {TAUS} taus on {kind} confidence"
        _, row = timed(step, lambda kind=kind: sweep(decisions, taus, kind, prices))  # type: ignore[misc]
        rows.append(row)
    _, row = timed("every figure at one tau", lambda: summarize(decisions, Threshold(0.5)))
    rows.append(row)
    document = {
        "machine": machine(),
        "decisions": DECISIONS,
        "megabytes": size / 1e6,
        "repetitions": REPETITIONS,
        "rows": [asdict(row) for row in rows],
    }
    lines = [
        f"{DECISIONS:,} recorded decisions, {size / 1e6:.0f} MB; seconds of {REPETITIONS} runs.",
        "",
        "| step | median | most |",
        "|---|---|---|",
        *(f"| {row.step} | {row.median:.3f} | {row.most:.3f} |" for row in rows),
    ]
    write_results("replay", document, "\n".join(lines) + "\n")
    print(json.dumps(document["rows"], indent=1))


if __name__ == "__main__":
    main()
