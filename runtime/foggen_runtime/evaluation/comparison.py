"""Two evaluations of the same questions, paired: how far the decisions of two bundles agree."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Self

from foggen_runtime.bundle.manifest import ConfidenceKind
from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.answering import BundleFacts, Evaluation
from foggen_runtime.evaluation.records import Record
from foggen_runtime.statistics.intervals import interval, upper_bound
from foggen_runtime.statistics.scores import auroc, calibration_error

SCHEMA_VERSION = 1

_Pairs = Sequence[tuple[Record, Record]]  # what the reference said to a question, and the other
_Kinds = tuple[ConfidenceKind, ConfidenceKind]  # which confidence of each tau is compared with
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
        tau: Below this confidence, each bundle's `tau_on`, a question is deferred; malformed output
            always is.
        levels: The template's levels, of both bundles.
        questions: How many were asked.
        flips: Decisions that differ at tau.
        flip_rate_upper_bound: One-sided 95 % upper bound of the flip rate.
        flips_by_tau: The same flip rate at every level as tau.
        confusion: How many questions got which level from the reference (row) and from the other
            (column); the last row and column are for no level.
        expected_confidence_change: Mean absolute change, over questions both gave a level to.
        answer_agreement: How often the answers have the same letter or, without letters, the same
            text, of the questions that either bundle answered; None without any.
        deferred: Deferrals at tau.
        accuracy: Share of right local answers, whatever the confidence, of the questions whose
            answer is known; None without any. A missing answer counts as wrong.
        auroc: How well the verbalized confidence tells right from wrong answers.
        ece: Expected calibration error of the verbalized confidence, one bin per level.
        domains: The figures by domain, in the order of the file; empty if it names none.
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
    """Check what can be checked before asking any question.

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


def compare(reference: Evaluation, other: Evaluation, tau: float) -> Comparison:
    """Compare what two bundles said to the same questions, of which there is at least one.

    Raises:
        ConfigError: The bundles' levels differ, or tau is not within [0, 1].
    """
    check_comparable(reference.levels, other.levels, tau)
    both = tuple(zip(reference.records, other.records, strict=True))
    kinds = (reference.bundle.tau_on, other.bundle.tau_on)
    values = [float(level) for level in reference.levels]
    flips = _flips(both, kinds, tau)
    return Comparison(
        reference=reference.bundle,
        other=other.bundle,
        tau=tau,
        levels=reference.levels,
        questions=len(both),
        flips=flips,
        flip_rate_upper_bound=upper_bound(flips.count, flips.total),
        flips_by_tau=tuple(TauFlips(each, _flips(both, kinds, each)) for each in sorted({*values})),
        confusion=_confusion(both, values),
        expected_confidence_change=_expected_confidence_change(both),
        answer_agreement=_answer_agreement(both),
        deferred=Rates.of(*zip(*_deferred(both, kinds, tau), strict=True)),
        accuracy=_accuracy(both),
        auroc=_figures(auroc, both),
        ece=_figures(calibration_error, both),
        domains=_domain_rows(both, kinds, tau),
    )


def _deferred(both: _Pairs, kinds: _Kinds, tau: float) -> list[tuple[bool, bool]]:
    return [(compared(one, kinds[0]) < tau, compared(other, kinds[1]) < tau) for one, other in both]


def compared(record: Record, kind: ConfidenceKind) -> float:
    """Return what tau is compared with; malformed output is below every tau."""
    if record.confidence is None:
        return -math.inf
    return record.confidence if kind == "verbalized" else record.expected_confidence or 0.0


def _flips(both: _Pairs, kinds: _Kinds, tau: float) -> Rate:
    return Rate.of([first != second for first, second in _deferred(both, kinds, tau)])


def _confusion(both: _Pairs, levels: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    counts = [[0] * (len(levels) + 1) for _ in range(len(levels) + 1)]
    for pair in both:
        row, column = (
            len(levels) if record.confidence is None else levels.index(record.confidence)
            for record in pair
        )
        counts[row][column] += 1
    return tuple(tuple(row) for row in counts)


def _expected_confidence_change(both: _Pairs) -> float | None:
    """Compare where both gave a level: without one, a record has no expected confidence."""
    changes = [
        abs(other.expected_confidence - one.expected_confidence)
        for one, other in both
        if one.expected_confidence is not None and other.expected_confidence is not None
    ]
    return fmean(changes) if changes else None


def _answer_agreement(both: _Pairs) -> Rate | None:
    agreements = [
        agree(one, other)
        for one, other in both
        if one.local_answer is not None or other.local_answer is not None
    ]
    return Rate.of(agreements) if agreements else None


def agree(one: Record, other: Record) -> bool:
    """Whether the answers are the same: by letter, or by text where neither has one."""
    if one.local_choice or other.local_choice:
        return one.local_choice == other.local_choice
    return one.local_answer is not None and one.local_answer == other.local_answer


def _accuracy(both: _Pairs) -> Rates | None:
    known = [pair for pair in both if pair[0].answer is not None]
    if not known:
        return None
    return Rates.of(*([bool(record.local_correct) for record in side] for side in _sides(known)))


def _figures(score: _Score, both: _Pairs) -> Figures | None:
    """Score the verbalized confidence of each bundle where there is one, against the answers."""
    known = [pair for pair in both if pair[0].answer is not None]
    if not known:
        return None
    scores = []
    for side in _sides(known):
        stated = [
            (record.confidence, bool(record.local_correct))
            for record in side
            if record.confidence is not None
        ]
        scores.append(score([c for c, _ in stated], [is_right for _, is_right in stated]))
    return Figures.of(*scores)


def _sides(both: _Pairs) -> Iterator[tuple[Record, ...]]:
    return zip(*both, strict=True)


def _domain_rows(both: _Pairs, kinds: _Kinds, tau: float) -> tuple[DomainRow, ...]:
    domains = dict.fromkeys(record.domain for record, _ in both)
    if not any(domains):
        return ()
    rows = []
    for domain in domains:
        chosen = [pair for pair in both if pair[0].domain == domain]
        rows.append(
            DomainRow(
                domain=domain,
                questions=len(chosen),
                flips=_flips(chosen, kinds, tau),
                answer_agreement=_answer_agreement(chosen),
                accuracy=_accuracy(chosen),
            )
        )
    return tuple(rows)
