"""The tiny FogGen evaluated in three recipes, and int4 and int8 calibrated to route as fp32 does.

Questions are generated: some calibrate, others, in none of whose texts they overlap, judge. Runs
`foggen eval` and `foggen calibrate` as a user does. Writes results/evaluation.json, .md and .svg;
run as `python -m benchmarks.evaluation` (`make evaluation`). Fails when int4, calibrated, routes a
share of the fresh questions that is more than a point from fp32's.
"""

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import RESULTS, write_results
from benchmarks.workspace import REPOSITORY, Workspace, workspace_argument
from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.evaluation.pictures import Series, picture
from foggen_runtime.evaluation.routing import routed
from foggen_runtime.evaluation.summary import Threshold, summarize
from foggen_runtime.statistics.bootstrap import Interval, paired_interval
from tests.support.export import export_bundle
from tests.tiny_foggen.questions import Question, generate

CHECKPOINT = REPOSITORY / "tests" / "tiny_foggen" / "checkpoint"
QUANTS = ("fp32", "int8", "int4")
COUNT = 3000
CALIBRATION_SEED, FRESH_SEED = 2011, 2012
CLOUD_ACCURACY = 0.9
MOST_POINTS = 0.01


@dataclass(frozen=True)
class Row:
    """One bundle at one threshold, on the fresh questions."""

    bundle: str
    on: str
    tau: float
    routed_share: float
    difference: float
    difference_interval: Interval
    system_accuracy: float | None
    lift: float | None
    local_accuracy: float
    auroc: float | None


def write_questions(questions: Sequence[Question], path: Path, seed: int) -> None:
    """Write a data file, with a simulated cloud's answers."""
    generator = random.Random(seed)
    lines = []
    for question in questions:
        wrong = [letter for letter in question.options if letter != question.answer]
        right = generator.random() < CLOUD_ACCURACY
        row = {
            "id": question.id,
            "domain": question.domain,
            "question": question.question,
            "answer": question.answer,
            "cloud_answer": question.answer if right else generator.choice(wrong),
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def foggen(*words: object) -> None:
    """Run a command of `foggen`, quietly."""
    command = [str(Path(sys.executable).parent / "foggen"), *map(str, words)]
    print("+", " ".join(command[1:]), file=sys.stderr, flush=True)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def recorded(bundle: Path, data: Path) -> Decisions:
    """Evaluate a bundle on a data file, or go on where that was interrupted."""
    records = data.with_name(f"{data.stem}-{bundle.name}.records.jsonl")
    foggen("eval", bundle, data, "--records", records, "--threads", 1, "--no-spinning")
    return Decisions.read(records)


def row(name: str, decisions: Decisions, threshold: Threshold, reference: Decisions) -> Row:
    """Return one row; the reference is fp32 at 0.5."""
    summary = summarize(decisions, threshold)
    goes = routed(decisions, threshold.tau, threshold.kind).astype(np.float64)
    difference = goes - routed(reference, 0.5)
    return Row(
        name,
        threshold.kind,
        threshold.tau,
        summary.routed_share,
        float(difference.mean()),
        paired_interval(difference),
        summary.system_accuracy,
        summary.lift,
        summary.local_accuracy,
        summary.auroc,
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| bundle | tau | on | routed | against fp32, points | system accuracy | lift, points |"
        " local accuracy | AUROC |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        low, high = 100 * one.difference_interval.low, 100 * one.difference_interval.high
        lines.append(
            f"| {one.bundle} | {one.tau:.3g} | {one.on} | {one.routed_share:.2%} "
            f"| {100 * one.difference:+.2f} [{low:.2f}, {high:.2f}] "
            f"| {one.system_accuracy or 0:.2%} | {100 * (one.lift or 0):+.2f} "
            f"| {one.local_accuracy:.2%} | {one.auroc or 0:.4f} |"
        )
    return "\n".join(lines) + "\n"


def make_questions(directory: Path) -> tuple[Path, Path]:
    """Write calibration and fresh questions."""
    calibration = generate(CALIBRATION_SEED, COUNT)
    texts = {question.question for question in calibration}
    fresh = [one for one in generate(FRESH_SEED, 2 * COUNT) if one.question not in texts][:COUNT]
    paths = directory / "calibration.jsonl", directory / "fresh.jsonl"
    write_questions(calibration, paths[0], CALIBRATION_SEED)
    write_questions(fresh, paths[1], FRESH_SEED)
    return paths


def main() -> None:
    """Evaluate, calibrate, judge, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    work: Workspace = parser.parse_args().work
    directory = work.root / "evaluation"
    directory.mkdir(parents=True, exist_ok=True)
    calibration, fresh = make_questions(directory)
    bundles = {quant: directory / quant for quant in QUANTS}
    for quant, bundle in bundles.items():
        if not (bundle / "foggen.json").exists():
            export_bundle(CHECKPOINT, bundle, quant)
    share = float(routed(recorded(bundles["fp32"], calibration), 0.5).mean())
    reference = recorded(bundles["fp32"], fresh)
    half = Threshold(0.5)
    rows = [row("fp32", reference, half, reference)]
    series = [Series("fp32", reference, half)]
    for quant in ("int8", "int4"):
        recorded(bundles[quant], calibration)
        records = calibration.with_name(f"calibration-{quant}.records.jsonl")
        words = ("--max-cloud-share", share, "--on", "expected")
        foggen("calibrate", bundles[quant], "--records", records, *words)
        decisions = recorded(bundles[quant], fresh)
        tau = Manifest.load(bundles[quant]).routing.tau
        calibrated = Threshold(tau, "expected")
        rows.append(row(quant, decisions, half, reference))
        rows.append(row(f"{quant}, calibrated", decisions, calibrated, reference))
        series.append(Series(f"{quant}, calibrated", decisions, calibrated))
    document = {
        "questions": {"calibration": COUNT, "fresh": len(reference)},
        "target_routed_share": share,
        "rows": [asdict(one) for one in rows],
    }
    write_results("evaluation", document, table(rows))
    (RESULTS / "evaluation.svg").write_bytes(picture([series[0], series[-1]], "svg"))
    print(table(rows))
    if abs(rows[-1].difference) > MOST_POINTS:
        sys.exit(f"int4 routes {100 * rows[-1].difference:+.2f} points more than fp32")


if __name__ == "__main__":
    main()
