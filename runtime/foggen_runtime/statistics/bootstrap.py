"""Bootstrap: how far a figure would move with other questions of the same kind."""

import random
from dataclasses import dataclass

import numpy as np

from foggen_runtime.statistics.arrays import Float64, Int64

RESAMPLES = 1000
_SEED = 20101


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of a figure over resampled questions (Efron's percentile interval)."""

    low: float
    high: float


def resampled(cell_of: Int64, cells: int) -> Float64:
    """Draw questions with replacement, as many as there are, over and over.

    The random numbers are the standard library's: boards' packages leave numpy's out.

    Args:
        cell_of: (questions,) which cell each belongs to. Questions of one cell count the same in
            every figure, so the shares of the cells describe a draw.
        cells: How many cells there are.

    Returns:
        (RESAMPLES, cells) shares of the drawn questions.
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
    return middle(resampled(value_of.reshape(-1), len(values)) @ values)


def middle(values: Float64) -> Interval:
    """Return the interval of a figure.

    Args:
        values: (RESAMPLES,) the figure of each draw.
    """
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))
