"""Operator times against the trace that onnxruntime wrote, added up here once more."""

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.profiling.operators import TracedPass, operator_times
from foggen_runtime.profiling.question_set import built_in_questions
from foggen_runtime.profiling.runner import Plan, trace_operators
from foggen_runtime.profiling.schema import Settings
from tests.conftest import BundleOf


def event(name: str, start: int, duration: int, operator: str = "") -> dict[str, object]:
    arguments = {"op_name": operator} if operator else {}
    return {"name": name, "ts": start, "dur": duration, "args": arguments}


def write_trace(path: Path, events: list[dict[str, object]]) -> Path:
    path.write_text(json.dumps([{"name": "process_name", "ph": "M"}, *events]), encoding="utf-8")
    return path


def test_kernels_are_counted_in_the_pass_they_ran_in(tmp_path: Path) -> None:
    events = [
        event("a_kernel_time", 10, 1000, "MatMul"),
        event("model_run", 0, 2000),
        event("b_kernel_time", 5010, 3000, "MatMul"),
        event("c_kernel_time", 8500, 1000, "Add"),
        event("b_fence_before", 5000, 7, "MatMul"),
        event("model_run", 5000, 5000),
        event("d_kernel_time", 20100, 500, "MatMul"),
        event("model_run", 20000, 1000),
    ]
    passes = [TracedPass("", 9), TracedPass("decision", 7), TracedPass("decision", 5)]
    found = operator_times(write_trace(tmp_path / "trace.json", events), passes)
    assert list(found) == ["decision"]
    decision = found["decision"]
    assert (decision.passes, decision.fed_tokens, decision.pass_ms) == (2, 6, 3.0)
    matmul, add = decision.operators
    assert (matmul.operator, matmul.milliseconds, matmul.calls) == ("MatMul", 1.75, 1)
    assert (add.operator, add.milliseconds, add.calls) == ("Add", 0.5, 0.5)
    assert matmul.share == pytest.approx(7 / 9)
    assert add.share == pytest.approx(2 / 9)


def test_a_trace_of_other_passes_is_refused(tmp_path: Path) -> None:
    trace = write_trace(tmp_path / "trace.json", [event("model_run", 0, 1)])
    with pytest.raises(ValueError, match="must hold 2 passes, holds 1"):
        operator_times(trace, [TracedPass("", 1)] * 2)


def test_totals_are_those_of_the_trace_itself(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    settings = Settings(threads=1, spinning=False)
    plan = Plan(Bundle.open(tiny_bundle("int4")), settings, built_in_questions())
    request = plan.request()
    found = trace_operators(replace(request, trace=str(tmp_path / "trace")))
    (trace,) = tmp_path.iterdir()
    events = json.loads(trace.read_text(encoding="utf-8"))
    kernels: defaultdict[str, float] = defaultdict(float)
    runs = sorted((e["ts"], e["dur"]) for e in events if e["name"] == "model_run")
    first_end = sum(runs[0])  # the first question warms up
    for e in events:
        if e["name"].endswith("_kernel_time") and e["ts"] > first_end:
            kernels[e["args"]["op_name"]] += e["dur"] / 1e3
    ours: defaultdict[str, float] = defaultdict(float)
    for traced in found.values():
        for time in traced.operators:
            ours[time.operator] += time.milliseconds * traced.passes
    assert ours == pytest.approx(kernels)
    whole = sum(traced.pass_ms * traced.passes for traced in found.values())
    assert whole == pytest.approx(sum(duration for _, duration in runs[1:]) / 1e3)
    assert sum(kernels.values()) < whole
    assert found["decision"].passes == 4
    assert found["token"].fed_tokens == 1
