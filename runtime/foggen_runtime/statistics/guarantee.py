"""Choosing a threshold with a finite-sample guarantee.

The risk is the share of wrong answers among those kept. Candidate thresholds are fixed before
anybody looks at the data. Each is tested exactly: given how many answers it keeps, the wrong ones
are binomial, and Clopper and Pearson's upper bound covers the risk. Every candidate has an equal
share of the allowed failure probability, so all bounds hold together (Bonferroni), and the one that
keeps most may be chosen among those that pass; this is Learn then Test (Angelopoulos et al., arXiv
2110.01052) with exact p-values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foggen_runtime.errors import ConfigError
from foggen_runtime.statistics.intervals import total_needed, upper_bound


@dataclass(frozen=True)
class Bound:
    """What is guaranteed for a threshold.

    Attributes:
        tau: Keep answers of at least this confidence.
        total: Calibration questions that count, e.g. those kept.
        count: How many of them are failures, e.g. wrong.
        bound: With the stated confidence, the share of failures is at most this.
    """

    tau: float
    total: int
    count: int
    bound: float


@dataclass(frozen=True)
class Limit:
    """A limit on a share, in words for messages.

    Attributes:
        target: How the user asked, e.g. `max_risk: 0.1`.
        share: What the share must not exceed.
        failures: What is counted, e.g. `wrong`.
        among: Of what, e.g. `kept answers`.
    """

    target: str
    share: float
    failures: str
    among: str


def bounds(counts: Sequence[tuple[float, int, int]], certainty: float) -> tuple[Bound, ...]:
    """Return a bound for each candidate, all of which hold at once with probability `certainty`.

    A candidate without any question that counts has a bound of 1.

    Args:
        counts: Each candidate's tau, total and count of failures; the taus must not depend on the
            data.
        certainty: E.g. 0.95.

    Raises:
        ConfigError: The certainty is not above 0 and below 1.
    """
    if not 0 < certainty < 1:
        raise ConfigError(f"confidence: must be above 0 and below 1, is {certainty}")
    each = 1 - (1 - certainty) / len(counts)
    return tuple(
        Bound(tau, total, count, upper_bound(count, total, each) if total else 1.0)
        for tau, total, count in counts
    )


def within(candidates: Sequence[Bound], limit: Limit, certainty: float) -> tuple[Bound, ...]:
    """Return the candidates whose bound is within the limit.

    Raises:
        ConfigError: None is; the message says about how many questions would be enough, if any.
    """
    fitting = tuple(bound for bound in candidates if bound.bound <= limit.share)
    if fitting:
        return fitting
    least = min(candidates, key=lambda bound: bound.bound)
    message = (
        f"{limit.target} with confidence {certainty:g} is not supported by the data: the least "
        f"bound is {least.bound:.3f}, at tau {least.tau:g} with {least.count} {limit.failures} of "
        f"{least.total} {limit.among}"
    )
    each = 1 - (1 - certainty) / len(candidates)
    totals = [
        (total_needed(bound.count, bound.total, limit.share, each), bound)
        for bound in candidates
        if bound.total and bound.count / bound.total < limit.share < 1
    ]
    if not totals:
        raise ConfigError(f"{message}; no amount of such data would be enough")
    needed, bound = min(totals, key=lambda pair: pair[0] / pair[1].total)
    raise ConfigError(
        f"{message}; about {needed} {limit.among} at tau {bound.tau:g} would be enough, that is "
        f"{needed / bound.total:.1f} times the data"
    )


def grid(confidence_levels: Sequence[float] | None, steps: int = 20) -> tuple[float, ...]:
    """Return candidate thresholds: the levels, or equal steps where confidence is continuous."""
    if confidence_levels is not None:
        return tuple(sorted(confidence_levels))
    return tuple(float(step) for step in np.linspace(0, 1, steps + 1))
