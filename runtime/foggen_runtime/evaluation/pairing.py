"""Two record files over the same questions: what changed from one to the other."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.evaluation.routing import routed
from foggen_runtime.evaluation.summary import Threshold
from foggen_runtime.statistics.arrays import Bool, Float64
from foggen_runtime.statistics.bootstrap import Interval, paired_interval
from foggen_runtime.statistics.intervals import interval


@dataclass(frozen=True)
class Change:
    """A share of the questions before and after, and the difference with its 95 % interval."""

    reference: float
    other: float
    difference: float
    interval: Interval


@dataclass(frozen=True)
class Flips:
    """Decisions that differ, with the exact 95 % interval of their share."""

    count: int
    share: float
    interval: Interval


@dataclass(frozen=True)
class Pairing:
    """Two record files compared at one threshold.

    Attributes:
        questions: How many both hold.
        tau: The threshold.
        flips: Decisions, local or cloud, that differ.
        level_changes: Questions whose level differs.
        changes: Shares by name: `routed_share`, `local_accuracy` and, if the cloud's correctness is
            known, `system_accuracy`.
    """

    questions: int
    tau: float
    flips: Flips
    level_changes: int
    changes: Mapping[str, Change]


def pair(reference: Decisions, other: Decisions, threshold: Threshold) -> Pairing:
    """Compare two record files.

    Raises:
        ConfigError: They are not of the same questions.
    """
    other = _in_order(reference, other)
    tau, kind = threshold.tau, threshold.kind
    goes, goes_other = routed(reference, tau, kind), routed(other, tau, kind)
    changes = {
        "routed_share": _change(goes, goes_other),
        "local_accuracy": _change(reference.local_correct, other.local_correct),
    }
    if reference.knows_cloud and other.knows_cloud:
        changes["system_accuracy"] = _change(
            np.where(goes, reference.cloud_correct, reference.local_correct),
            np.where(goes_other, other.cloud_correct, other.local_correct),
        )
    count, total = int((goes != goes_other).sum()), len(reference)
    return Pairing(
        total,
        tau,
        Flips(count, count / total, Interval(*interval(count, total))),
        int((reference.verbalized != other.verbalized).sum()),
        changes,
    )


def _in_order(reference: Decisions, other: Decisions) -> Decisions:
    if reference.header.data_sha256 != other.header.data_sha256:
        raise ConfigError("records: must be of the same data, are of different files")
    places = {name: place for place, name in enumerate(other.ids)}
    if set(places) != set(reference.ids):
        raise ConfigError("records: must hold the same questions, hold different ones")
    return other.only(np.array([places[name] for name in reference.ids], np.int64))


def _change(before: Float64 | Bool, after: Float64 | Bool) -> Change:
    first, second = before.astype(np.float64), after.astype(np.float64)
    difference = second - first
    return Change(
        float(first.mean()),
        float(second.mean()),
        float(difference.mean()),
        paired_interval(difference),
    )
