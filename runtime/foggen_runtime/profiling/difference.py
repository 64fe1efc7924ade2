"""Two profiles side by side: how much slower one is, with an interval.

Questions asked in one process share its luck, so the processes are the independent samples: each
gives one median per metric. Welch's t interval on the logarithms of these medians gives the
interval of the ratio of their geometric means.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from foggen_runtime.profiling.samples import Round
from foggen_runtime.profiling.schema import Profile
from foggen_runtime.reports.pages import Page, Section
from foggen_runtime.statistics.welch import welch_margin

DIFFERENCE_VERSION = 1

Verdict = Literal["slower", "faster", "no difference shown", "one process only"]


@dataclass(frozen=True)
class Change:
    """One metric of B against A.

    Attributes:
        metric: Its name; times and memory rise when things get worse, rates fall.
        a: Geometric mean over A's processes.
        b: The same for B.
        slowdown: How many times worse B is; below 1 it is better.
        low: Lower end of the 95 % interval; null with fewer than two processes on a side.
        high: Upper end.
        verdict: Whether the interval lies on one side of 1.
    """

    metric: str
    unit: str
    a: float
    b: float
    slowdown: float
    low: float | None
    high: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Difference:
    """B against A; `notes` name what differed besides."""

    schema_version: int
    a: str
    b: str
    notes: tuple[str, ...]
    changes: tuple[Change, ...]

    def change(self, metric: str) -> Change | None:
        """Return one metric's change, if both profiles have it."""
        return next((change for change in self.changes if change.metric == metric), None)


def difference(a: Profile, b: Profile) -> Difference:
    """Compare two profiles metric by metric."""
    changes = []
    for metric, (unit, values) in _metrics(a).items():
        ours, theirs = (_per_process(values, profile.rounds) for profile in (a, b))
        if ours and theirs:
            changes.append(_change(metric, unit, ours, theirs))
    return Difference(DIFFERENCE_VERSION, _label(a), _label(b), _notes(a, b), tuple(changes))


def page(found: Difference) -> Page:
    """Return the difference in a table."""
    rows = tuple(
        (
            f"{change.metric}, {change.unit}",
            f"{change.a:.4g}",
            f"{change.b:.4g}",
            f"{change.slowdown:.3f}",
            "-" if change.low is None else f"[{change.low:.3f}, {change.high:.3f}]",
            change.verdict,
        )
        for change in found.changes
    )
    head = ("metric", "A", "B", "slowdown of B", "95 % interval", "verdict")
    note = (
        "Each process gives one median; the interval of the ratio is Welch's t on their "
        "logarithms. For rates and times alike, a slowdown above 1 is worse."
    )
    items = (f"A: {found.a}", f"B: {found.b}", *found.notes)
    return Page("B against A", (Section("", head, rows, note=note),), items=items)


def _metrics(profile: Profile) -> dict[str, tuple[str, Callable[[Round], list[float | None]]]]:
    """Return each metric's unit and how to read a process's values."""

    def question(name: str) -> Callable[[Round], list[float | None]]:
        return lambda measured: [getattr(sample, name) for sample in measured.questions]

    def rate(name: str) -> Callable[[Round], list[float | None]]:
        return lambda measured: list(measured.streams.get(name, ()))

    return {
        "decision": ("ms", question("decision_ms")),
        "letter": ("ms", question("letter_ms")),
        "total": ("ms", question("total_ms")),
        "first_decision": ("ms", lambda measured: [measured.phases_ms.first_decision]),
        "load": ("ms", lambda measured: [measured.phases_ms.load]),
        **{name: ("t/s", rate(name)) for name in profile.summary.tokens_per_second},
        "peak_rss": ("bytes", lambda measured: [measured.memory.peak_rss_bytes]),
    }


def _per_process(
    values: Callable[[Round], list[float | None]], rounds: Sequence[Round]
) -> list[float]:
    columns = ([value for value in values(measured) if value] for measured in rounds)
    return [statistics.median(column) for column in columns if column]


def _change(metric: str, unit: str, a: Sequence[float], b: Sequence[float]) -> Change:
    logs_a, logs_b = ([math.log(value) for value in values] for values in (a, b))
    means = [statistics.fmean(logs) for logs in (logs_a, logs_b)]
    sign = -1 if unit == "t/s" else 1
    distance = sign * (means[1] - means[0])
    margin = welch_margin(logs_a, logs_b)
    low, high = (None, None) if margin is None else (distance - margin, distance + margin)
    return Change(
        metric,
        unit,
        math.exp(means[0]),
        math.exp(means[1]),
        math.exp(distance),
        None if low is None else math.exp(low),
        None if high is None else math.exp(high),
        _verdict(low, high),
    )


def _verdict(low: float | None, high: float | None) -> Verdict:
    if low is None or high is None:
        return "one process only"
    if low > 0:
        return "slower"
    return "faster" if high < 0 else "no difference shown"


def _label(profile: Profile) -> str:
    return (
        f"{profile.bundle.name} ({profile.bundle.recipe}), bundle {profile.bundle.sha256[:12]}, "
        f"{profile.device.cpu}, onnxruntime {profile.software.onnxruntime}, {profile.created}"
    )


def _notes(a: Profile, b: Profile) -> tuple[str, ...]:
    """Name differing settings and devices."""
    notes = []
    if (a.device.board, a.device.cpu) != (b.device.board, b.device.cpu):
        notes.append("the devices differ")
    if a.rounds[0].prepared != b.rounds[0].prepared:
        notes.append("only one of them opened a prepared model")
    for field in dataclasses.fields(a.settings):
        ours, theirs = (getattr(profile.settings, field.name) for profile in (a, b))
        if ours != theirs:
            notes.append(f"{field.name}: A has {ours}, B has {theirs}")
    return tuple(notes)
