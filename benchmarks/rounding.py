"""Why `int4-gptq` is SmoothQuant, then GPTQ: it beside plain and clipped ranges, HQQ and AWQ.

All methods give bundles of the same format and size, calibrated on the built-in questions or random
halves of them, and judged against fp32 on questions of the tiny FogGen that calibrate nothing.
Writes results/rounding.json and .md; run as `python -m benchmarks.rounding` (`make rounding`).
"""

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from benchmarks.machine import machine, write_results
from benchmarks.rounding_bundles import (
    METHODS,
    REPEATED,
    SHIPPED,
    Method,
    export,
    prompts_of,
    write_bundle,
)
from benchmarks.rounding_judging import TAU, Cost, Decisions, Difference, Judged, Score
from benchmarks.rounding_report import Report, markdown
from benchmarks.workspace import REPOSITORY
from foggen_exporter.bundle_files import GRAPH_FILE
from foggen_exporter.calibration import CalibrationSet
from foggen_exporter.checkpoint import Checkpoint
from tests.support.outliers import PLACES, Outliers, add_outliers
from tests.tiny_foggen.questions import generate

TINY = REPOSITORY / "tests" / "tiny_foggen"
FRESH_SEED, FRESH = 2013, 3000
HALVES = (1, 2, 3)
FACTOR, OUTLIER_QUESTIONS = 256.0, 400


@dataclass(frozen=True)
class Setting:
    """What methods are compared on.

    Attributes:
        name: E.g. `clean`.
        checkpoint: What is rounded.
        calibration: The questions to go by.
        questions: The questions that judge.
        reference: The decisions of fp32 on them.
        parts: Which of the questions to score beside all of them, by name.
    """

    name: str
    checkpoint: Path
    calibration: Sequence[str]
    questions: Sequence[str]
    reference: Decisions
    parts: Mapping[str, slice] = field(default_factory=dict)


@dataclass(frozen=True)
class Questions:
    """Those that calibrate and those that judge, none of them both."""

    calibration: Sequence[str]
    held_out: Sequence[str]
    fresh: Sequence[str]

    @classmethod
    def read(cls) -> Self:
        """Return the built-in questions, the held-out ones, and fresh ones that are no such."""
        lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
        held_out = [json.loads(line)["question"] for line in lines]
        known = set(held_out)
        generated = [question.question for question in generate(FRESH_SEED, 2 * FRESH)]
        fresh = [text for text in generated if text not in known][:FRESH]
        return cls(CalibrationSet.built_in().questions, held_out, fresh)

    @property
    def judging(self) -> list[str]:
        """All that judge."""
        return [*self.held_out, *self.fresh]


def halves(questions: Sequence[str]) -> list[list[str]]:
    """Return random halves of the calibration questions."""
    return [random.Random(seed).sample(questions, len(questions) // 2) for seed in HALVES]


def judge(setting: Setting, methods: Sequence[Method], work: Path) -> list[Judged]:
    """Make each method's bundle and ask it; the shipped method must be among them."""
    prompts = prompts_of(work / "fp32", setting.calibration)
    bundle, made = work / "bundle", {}
    for method in methods:
        seconds = write_bundle(setting.checkpoint, method, prompts, bundle)
        size = (bundle / f"{GRAPH_FILE}.data").stat().st_size
        made[method.name] = Decisions.of(bundle, setting.questions), Cost(seconds, size / 1e6)
        flips = int(made[method.name][0].flipped(setting.reference).sum())
        print(f"{setting.name}: {method.name}: {flips} flips", file=sys.stderr, flush=True)
    return [_judged(setting, method, made) for method in methods]


def _judged(setting: Setting, method: Method, made: Mapping[str, tuple[Decisions, Cost]]) -> Judged:
    (decisions, cost), (shipped, _) = made[method.name], made[SHIPPED.name]
    reference = setting.reference
    against = None
    if method is not SHIPPED:
        against = Difference.of(decisions, shipped, reference)
    parts = {
        name: Score.of(decisions.part(which), reference.part(which))
        for name, which in setting.parts.items()
    }
    score = Score.of(decisions, reference)
    return Judged(setting.name, method.name, cost, score, parts, against)


def as_trained(work: Path, questions: Questions) -> tuple[list[Judged], list[Judged]]:
    """Return every method, and some on halves of the built-in questions."""
    every = Setting(
        "built-in questions",
        TINY / "checkpoint",
        questions.calibration,
        questions.judging,
        Decisions.of(work / "fp32", questions.judging),
        {
            "held-out": slice(len(questions.held_out)),
            "fresh": slice(len(questions.held_out), None),
        },
    )
    judged = judge(every, METHODS, work)
    by_half = []
    for seed, half in zip(HALVES, halves(questions.calibration), strict=True):
        setting = replace(every, name=f"half {seed}", calibration=half, parts={})
        by_half += judge(setting, REPEATED, work)
    return judged, by_half


def under_outliers(work: Path, questions: Questions) -> list[Judged]:
    """Return every method for each place of outliers."""
    injected, few = work / "injected", questions.held_out[:OUTLIER_QUESTIONS]
    reference = Decisions.of(work / "fp32", few)
    judged = []
    for place in PLACES:
        shutil.rmtree(injected, ignore_errors=True)
        shutil.copytree(TINY / "checkpoint", injected)
        add_outliers(injected, Outliers(FACTOR, [place]))
        name = f"{place}, {FACTOR:g}x"
        setting = Setting(name, injected, questions.calibration, few, reference)
        judged += judge(setting, METHODS, work)
    return judged


def judge_all(questions: Questions) -> Report:
    """Judge every method everywhere."""
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        export(Checkpoint.open(TINY / "checkpoint"), "fp32", work / "fp32")
        return Report(*as_trained(work, questions), under_outliers(work, questions))


def write(report: Report, questions: Questions) -> None:
    """Write the results, and show them."""
    counts = {
        "calibration": len(questions.calibration),
        "half": len(questions.calibration) // 2,
        "held_out": len(questions.held_out),
        "fresh": len(questions.fresh),
        "under_outliers": OUTLIER_QUESTIONS,
    }
    document = {"machine": machine(), "tau": TAU, "questions": counts, **asdict(report)}
    text = markdown(report, counts)
    write_results("rounding", document, text)
    print(text)


def main() -> None:
    """Judge every method everywhere and write the results."""
    questions = Questions.read()
    write(judge_all(questions), questions)


if __name__ == "__main__":
    main()
