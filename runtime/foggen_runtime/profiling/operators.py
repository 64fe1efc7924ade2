"""Operator times from the trace that onnxruntime's profiler writes.

The trace is a JSON list of events in Chrome's format, times in microseconds: one `model_run` for
each pass, and within it one `..._kernel_time` for each node, with the operator's name.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from foggen_runtime.profiling.schema import OperatorTime, PassOperators


@dataclass(frozen=True)
class TracedPass:
    """A pass as the caller knows it: what it was for, and how many tokens it fed."""

    kind: str
    fed_tokens: float


@dataclass(frozen=True)
class _Pass:
    start: float
    duration: float

    def holds(self, moment: float) -> bool:
        return self.start <= moment <= self.start + self.duration


def operator_times(trace: Path, passes: Sequence[TracedPass]) -> dict[str, PassOperators]:
    """Add up a trace by kind of pass and operator.

    Args:
        trace: What the profiler wrote.
        passes: Every pass of the traced session, in order; those of kind "" are left out.

    Raises:
        ValueError: The trace has another number of passes.
    """
    events = [event for event in json.loads(trace.read_text(encoding="utf-8")) if "dur" in event]
    windows = sorted(
        (_Pass(event["ts"], event["dur"]) for event in events if event["name"] == "model_run"),
        key=lambda window: window.start,
    )
    if len(windows) != len(passes):
        raise ValueError(f"trace: must hold {len(passes)} passes, holds {len(windows)}")
    kernels = [
        (event["ts"], event["args"]["op_name"], event["dur"] / 1e3)
        for event in events
        if event["name"].endswith("_kernel_time")
    ]
    pairs = list(zip(windows, passes, strict=True))
    kinds = dict.fromkeys(work.kind for work in passes if work.kind)
    return {
        kind: _add_up([pair for pair in pairs if pair[1].kind == kind], kernels) for kind in kinds
    }


def _add_up(
    pairs: Sequence[tuple[_Pass, TracedPass]], kernels: Iterable[tuple[float, str, float]]
) -> PassOperators:
    """Return the mean pass of one kind; kernels are (microsecond, operator, milliseconds)."""
    times: defaultdict[str, float] = defaultdict(float)
    calls: defaultdict[str, int] = defaultdict(int)
    for moment, operator, milliseconds in kernels:
        if any(window.holds(moment) for window, _ in pairs):
            times[operator] += milliseconds
            calls[operator] += 1
    count, total = len(pairs), sum(times.values())
    return PassOperators(
        passes=count,
        fed_tokens=sum(work.fed_tokens for _, work in pairs) / count,
        pass_ms=sum(window.duration for window, _ in pairs) / 1e3 / count,
        operators=tuple(
            OperatorTime(name, spent / count, spent / total, calls[name] / count)
            for name, spent in sorted(times.items(), key=lambda item: -item[1])
        ),
    )
