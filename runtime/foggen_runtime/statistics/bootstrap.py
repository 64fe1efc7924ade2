"""Bootstrap intervals of figures at a threshold."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from foggen_runtime.evaluation.decisions import ConfidenceKind, Decisions, Float64, Int64
from foggen_runtime.evaluation.routing import routed

RESAMPLES = 1000
_SEED = 20101


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of a figure over resampled questions (Efron's percentile interval)."""

    low: float
    high: float


def intervals(
    decisions: Decisions, tau: float, kind: ConfidenceKind = "verbalized"
) -> Mapping[str, Interval]:
    """Return intervals of the figures that are means over questions, by name.

    Questions are drawn with replacement, as many as there are. The figures depend on three yes or
    no facts of each question only, so that counting their combinations is enough.
    """
    goes = routed(decisions, tau, kind)
    local, cloud = decisions.local_correct, decisions.cloud_correct
    known = decisions.knows_cloud
    facts = np.stack([goes, local, np.nan_to_num(cloud) > 0], axis=1)
    cells, cell_of = np.unique(facts, axis=0, return_inverse=True)
    draws = _resampled(cell_of.reshape(-1), len(cells))
    goes_cell, local_cell, cloud_cell = (cells[:, i].astype(np.float64) for i in range(3))
    share, weak, strong = draws @ goes_cell, draws @ local_cell, draws @ cloud_cell
    figures: dict[str, Float64] = {"routed_share": share, "local_accuracy": weak}
    if known:
        system = draws @ np.where(goes_cell > 0, cloud_cell, local_cell)
        figures["cloud_accuracy"] = strong
        figures["system_accuracy"] = system
        figures["lift"] = system - ((1 - share) * weak + share * strong)
    return {name: _middle(values) for name, values in figures.items()}


def _resampled(cell_of: Int64, cells: int) -> Float64:
    """Return (RESAMPLES, cells) shares of drawn questions.

    The random numbers are the standard library's: boards go without numpy's.
    """
    total = len(cell_of)
    generator = random.Random(_SEED)
    shares = np.empty((RESAMPLES, cells))
    for row in shares:
        drawn = np.frombuffer(generator.randbytes(8 * total), np.uint64) % np.uint64(total)
        row[:] = np.bincount(cell_of[drawn.astype(np.int64)], minlength=cells) / total
    return shares


def paired_interval(differences: Float64) -> Interval:
    """Return the interval of a mean difference over resampled questions.

    Args:
        differences: (questions,) of few distinct values, e.g. -1, 0 and 1.
    """
    values, value_of = np.unique(differences, return_inverse=True)
    return _middle(_resampled(value_of.reshape(-1), len(values)) @ values)


def _middle(values: Float64) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))
