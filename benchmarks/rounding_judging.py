"""Decisions of differently rounded bundles, against fp32 and against each other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from foggen_runtime import EngineOptions, OpenOptions
from foggen_runtime.bundle import Bundle
from foggen_runtime.evaluation.bootstrap import Interval, paired_interval
from foggen_runtime.intervals import interval
from foggen_runtime.local_model import Decoding, LocalModel

TAU = 0.5
SIGNIFICANCE = 0.05
MORE, FEWER, UNCLEAR = "more flips", "fewer flips", "not told apart"

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Decisions:
    """What a bundle makes of questions.

    Attributes:
        levels: The verbalized confidence, (questions,).
        expected: The probability-weighted mean of the levels, (questions,).
    """

    levels: Float64
    expected: Float64

    @classmethod
    def of(cls, bundle: Path, questions: Sequence[str]) -> Self:
        """Ask a bundle; it only decides.

        Raises:
            RuntimeError: A decision has no level.
        """
        options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
        model = LocalModel(Bundle.open(bundle), options)
        prompt, values = model.bundle.manifest.prompt, model.bundle.manifest.template.level_values
        levels, expected = [], []
        for question in questions:
            ids = model.tokenizer.prompt_ids(prompt, question)
            decision = model.decoder(Decoding()).decide(ids[model.prefix_length :])
            if decision.level is None or decision.reading is None:
                raise RuntimeError("constrained decoding gave no level")
            levels.append(values[decision.level])
            expected.append(float(np.dot(values, decision.reading.level_probabilities)))
        return cls(np.array(levels), np.array(expected))

    def part(self, which: slice) -> Self:
        """Return some of the decisions."""
        return type(self)(self.levels[which], self.expected[which])

    def flipped(self, reference: Self) -> Bool:
        """Return which questions change sides of tau."""
        flipped: Bool = (self.levels < TAU) != (reference.levels < TAU)
        return flipped

    def moved(self, reference: Self) -> Float64:
        """Return how far each expected confidence is off."""
        moved: Float64 = np.abs(self.expected - reference.expected)
        return moved


@dataclass(frozen=True)
class Score:
    """A bundle against fp32.

    Attributes:
        flips: How many decisions differ.
        flip_interval: Of their share, exact, 95 %.
        level_changes: How many verbalized levels differ.
        change: The mean absolute change of the expected confidence.
    """

    questions: int
    flips: int
    flip_interval: Interval
    level_changes: int
    change: float

    @classmethod
    def of(cls, decisions: Decisions, reference: Decisions) -> Self:
        """Compare."""
        flips, count = int(decisions.flipped(reference).sum()), len(reference.levels)
        return cls(
            questions=count,
            flips=flips,
            flip_interval=Interval(*interval(flips, count)),
            level_changes=int((decisions.levels != reference.levels).sum()),
            change=float(decisions.moved(reference).mean()),
        )


@dataclass(frozen=True)
class Difference:
    """One bundle's distance from fp32 against another's, question by question.

    Attributes:
        only_one: Questions that flip with it and not with the other.
        only_other: The reverse.
        p_value: The exact two-sided one of McNemar's test that both are equally likely.
        flips: The difference of the shares of flips, and its interval over resampled questions.
        flips_interval: 95 %.
        change: The difference of the mean absolute changes of the expected confidence.
        change_interval: 95 %, over resampled questions.
    """

    only_one: int
    only_other: int
    p_value: float
    flips: float
    flips_interval: Interval
    change: float
    change_interval: Interval

    @classmethod
    def of(cls, one: Decisions, other: Decisions, reference: Decisions) -> Self:
        """Compare two bundles that are each compared with the reference."""
        flips = one.flipped(reference).astype(float) - other.flipped(reference)
        change = one.moved(reference) - other.moved(reference)
        only_one, only_other = int((flips > 0).sum()), int((flips < 0).sum())
        return cls(
            only_one=only_one,
            only_other=only_other,
            p_value=mcnemar(only_one, only_other),
            flips=float(flips.mean()),
            flips_interval=paired_interval(flips),
            change=float(change.mean()),
            change_interval=paired_interval(change),
        )

    def flips_verdict(self, comparisons: int) -> str:
        """Say what the flips tell, when this is one of several comparisons (Bonferroni)."""
        if self.p_value >= SIGNIFICANCE / comparisons:
            return UNCLEAR
        return MORE if self.flips > 0 else FEWER


@dataclass(frozen=True)
class Cost:
    """What a bundle took: processor seconds to calibrate and round, and its weights' file."""

    seconds: float
    weights_mb: float


@dataclass(frozen=True)
class Judged:
    """One method in one setting.

    Attributes:
        setting: What it was calibrated by or what was injected.
        method: Its name.
        cost: What it took.
        score: Over all questions.
        parts: Over some of them, by name.
        against: Its difference from the shipped method; None for that itself.
    """

    setting: str
    method: str
    cost: Cost
    score: Score
    parts: Mapping[str, Score]
    against: Difference | None


def mcnemar(one: int, other: int) -> float:
    """Return the exact two-sided p-value of two discordant counts.

    McNemar, Psychometrika 12 (1947), with the binomial distribution: under equality each discordant
    pair falls to either side with probability 1/2.
    """
    total = one + other
    tail = sum(math.comb(total, i) for i in range(min(one, other) + 1))
    return min(1.0, 2 * tail / (1 << total))
