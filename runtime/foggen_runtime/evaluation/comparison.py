"""How far the decisions of two bundles agree, over the same questions."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Self

from foggen_runtime.comparison.verdicts import Answers, BundleFacts, Verdict
from foggen_runtime.errors import ConfigError
from foggen_runtime.statistics.intervals import interval, upper_bound
from foggen_runtime.statistics.scores import auroc, calibration_error
from foggen_runtime.text.questions import Question

SCHEMA_VERSION = 1

_Pair = tuple[Answers, Answers]  # the reference, the other
_Score = Callable[[Sequence[float], Sequence[bool]], float | None]


@dataclass(frozen=True)
class Rate:
    """A share of `total` with its exact two-sided 95 % interval."""

    count: int
    total: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: Sequence[bool]) -> Self:
        """Count; there must be something to count."""
        count, total = sum(hits), len(hits)
        return cls(count, total, count / total, *interval(count, total))


@dataclass(frozen=True)
class TauFlips:
    """The flip rate if tau were this."""

    tau: float
    flips: Rate


@dataclass(frozen=True)
class Rates:
    """A rate of both bundles; `delta` is the other's less the reference's."""

    reference: Rate
    other: Rate
    delta: float

    @classmethod
    def of(cls, reference: Sequence[bool], other: Sequence[bool]) -> Self:
        """Count both."""
        first, second = Rate.of(reference), Rate.of(other)
        return cls(first, second, second.rate - first.rate)


@dataclass(frozen=True)
class Figures:
    """A figure of both bundles, None where undefined; `delta` as in `Rates`."""

    reference: float | None
    other: float | None
    delta: float | None

    @classmethod
    def of(cls, reference: float | None, other: float | None) -> Self:
        """Subtract."""
        delta = None if reference is None or other is None else other - reference
        return cls(reference, other, delta)


@dataclass(frozen=True)
class DomainRow:
    """One domain, or the questions that name none; fields as in `Comparison`."""

    domain: str | None
    questions: int
    flips: Rate
    answer_agreement: Rate | None
    accuracy: Rates | None


@dataclass(frozen=True)
class Comparison:
    """The whole of what `foggen compare --json` prints.

    Attributes:
        reference: The bundle compared with.
        other: The bundle compared.
        tau: Confidence below this defers, each bundle's `tau_on`; malformed output always does.
        levels: The template's levels, of both bundles.
        questions: How many were asked.
        flips: Decisions that differ at tau.
        flip_rate_upper_bound: One-sided 95 % upper bound of the flip rate.
        flips_by_tau: The same flip rate at every level as tau.
        confusion: How many questions got a level (and last, none) by the reference (row) and by
            the other (column).
        expected_confidence_change: Mean absolute change, over questions both gave a level to.
        answer_agreement: Same letter, or same text where there is no letter, of the questions that
            either bundle answered; None without any.
        deferred: Deferrals at tau.
        accuracy: Local answers that are right, of the questions whose answer is known, whatever
            the confidence; None without any. No answer counts as wrong.
        auroc: How well the verbalized confidence tells right from wrong answers.
        ece: Expected calibration error of the verbalized confidence, one bin per level.
        domains: The figures by domain, in the order of the file; empty when it names none.
    """

    reference: BundleFacts
    other: BundleFacts
    tau: float
    levels: tuple[str, ...]
    questions: int
    flips: Rate
    flip_rate_upper_bound: float
    flips_by_tau: tuple[TauFlips, ...]
    confusion: tuple[tuple[int, ...], ...]
    expected_confidence_change: float | None
    answer_agreement: Rate | None
    deferred: Rates
    accuracy: Rates | None
    auroc: Figures | None
    ece: Figures | None
    domains: tuple[DomainRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values, `schema_version` first."""
        return {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}


def check_comparable(reference: Sequence[str], other: Sequence[str], tau: float) -> None:
    """Check what can be checked before any question is asked.

    Args:
        reference: The reference's confidence levels.
        other: The other's.
        tau: Where to compare decisions.

    Raises:
        ConfigError: The levels differ, or tau is not within [0, 1].
    """
    if tuple(reference) != tuple(other):
        raise ConfigError(
            f"levels: both bundles must have the same, the reference has {', '.join(reference)}, "
            f"the other {', '.join(other)}"
        )
    if not 0 <= tau <= 1:
        raise ConfigError(f"tau: must be within [0, 1], is {tau}")


def compare(
    questions: Sequence[Question], reference: Answers, other: Answers, tau: float
) -> Comparison:
    """Compare what two bundles said to the same questions, of which there is at least one.

    Raises:
        ConfigError: The bundles have other levels, or tau is not within [0, 1].
    """
    check_comparable(reference.levels, other.levels, tau)
    pair = (reference, other)
    whole = _domain_row(None, questions, pair, tau)
    taus = sorted({float(level) for level in reference.levels})
    return Comparison(
        reference=reference.bundle,
        other=other.bundle,
        tau=tau,
        levels=reference.levels,
        questions=whole.questions,
        flips=whole.flips,
        flip_rate_upper_bound=upper_bound(whole.flips.count, whole.flips.total),
        flips_by_tau=tuple(TauFlips(each, _flips(pair, each)) for each in taus),
        confusion=_confusion(pair),
        expected_confidence_change=_expected_confidence_change(pair),
        answer_agreement=whole.answer_agreement,
        deferred=Rates.of(*(_deferred(answers, tau) for answers in pair)),
        accuracy=whole.accuracy,
        auroc=_figures(auroc, questions, pair),
        ece=_figures(calibration_error, questions, pair),
        domains=_domain_rows(questions, pair, tau),
    )


def _deferred(answers: Answers, tau: float) -> list[bool]:
    return [confidence < tau for confidence in answers.compared]


def _flips(pair: _Pair, tau: float) -> Rate:
    first, second = (_deferred(answers, tau) for answers in pair)
    return Rate.of([a != b for a, b in zip(first, second, strict=True)])


def _confusion(pair: _Pair) -> tuple[tuple[int, ...], ...]:
    none = len(pair[0].levels)
    counts = [[0] * (none + 1) for _ in range(none + 1)]
    for one, other in _both(pair):
        row = none if one.level is None else one.level
        column = none if other.level is None else other.level
        counts[row][column] += 1
    return tuple(tuple(row) for row in counts)


def _expected_confidence_change(pair: _Pair) -> float | None:
    changes = [
        abs(other.expected_confidence - one.expected_confidence)
        for one, other in _both(pair)
        if one.level is not None and other.level is not None
        if one.expected_confidence is not None and other.expected_confidence is not None
    ]
    return fmean(changes) if changes else None


def _domain_rows(questions: Sequence[Question], pair: _Pair, tau: float) -> tuple[DomainRow, ...]:
    domains = dict.fromkeys(question.domain for question in questions)
    if not any(domains):
        return ()
    rows = []
    for domain in domains:
        chosen = [i for i, question in enumerate(questions) if question.domain == domain]
        asked = [questions[i] for i in chosen]
        reference, other = (answers.only(chosen) for answers in pair)
        rows.append(_domain_row(domain, asked, (reference, other), tau))
    return tuple(rows)


def _domain_row(
    domain: str | None, questions: Sequence[Question], pair: _Pair, tau: float
) -> DomainRow:
    agreements = [
        one.agrees(other)
        for one, other in _both(pair)
        if one.answer is not None or other.answer is not None
    ]
    right = [_right(questions, answers) for answers in pair]
    return DomainRow(
        domain=domain,
        questions=len(questions),
        flips=_flips(pair, tau),
        answer_agreement=Rate.of(agreements) if agreements else None,
        accuracy=Rates.of(*right) if right[0] else None,
    )


def _right(questions: Sequence[Question], answers: Answers) -> list[bool]:
    """Return whether the local answer is right, for questions whose answer is known."""
    return [
        verdict.choice == question.answer
        for question, verdict in zip(questions, answers.verdicts, strict=True)
        if question.answer is not None
    ]


def _figures(score: _Score, questions: Sequence[Question], pair: _Pair) -> Figures | None:
    """Score the verbalized confidence of each bundle where there is one, against the answers."""
    if all(question.answer is None for question in questions):
        return None
    scores = []
    for answers in pair:
        confidences = zip(questions, answers.confidences, strict=True)
        known = [confidence for question, confidence in confidences if question.answer is not None]
        stated = [
            (confidence, is_right)
            for confidence, is_right in zip(known, _right(questions, answers), strict=True)
            if confidence > -math.inf
        ]
        scores.append(score([c for c, _ in stated], [is_right for _, is_right in stated]))
    return Figures.of(*scores)


def _both(pair: _Pair) -> Iterator[tuple[Verdict, Verdict]]:
    return zip(pair[0].verdicts, pair[1].verdicts, strict=True)
