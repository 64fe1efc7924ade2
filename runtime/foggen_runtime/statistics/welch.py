"""How far the means of two samples are apart, with Welch's interval.

After "The generalization of Student's problem when several different population variances are
involved", Biometrika 34, 1947.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from foggen_runtime.statistics.intervals import CONFIDENCE

_STEPS = 20_000
_MANY = 1000.0


def welch_margin(
    a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE
) -> float | None:
    """Return half the width of the interval of the difference of two samples' means.

    None with fewer than two values in a sample.
    """
    if min(len(a), len(b)) < 2:
        return None
    errors = [statistics.variance(values) / len(values) for values in (a, b)]
    total = sum(errors)
    if total == 0:
        return 0.0
    degrees = total**2 / sum(
        error**2 / (len(values) - 1) for error, values in zip(errors, (a, b), strict=True)
    )
    return t_quantile((1 + confidence) / 2, degrees) * math.sqrt(total)


def t_quantile(probability: float, degrees: float) -> float:
    """Return Student's t at a probability of at least 0.5, to about six digits.

    With t = sqrt(v) tan(x) the density becomes proportional to cos(x) to the power of v - 1, which
    is smooth on a finite interval and summed there.
    """
    degrees = min(degrees, _MANY)
    x = np.linspace(0, math.pi / 2, _STEPS + 1)
    height = np.cos(x) ** (degrees - 1)
    area = np.concatenate([[0.0], np.cumsum((height[1:] + height[:-1]) / 2)])
    half = area / area[-1] / 2
    return math.sqrt(degrees) * math.tan(float(np.interp(probability - 0.5, half, x)))
