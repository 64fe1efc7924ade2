"""The runtime against the stored golden traces, which the Kotlin core is held to as well."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from benchmarks.emulation.arm64_root import Arm64Root
from benchmarks.emulation.machines import HASWELL, run_python
from foggen_runtime.jsonio import from_json
from tests.conftest import TINY
from tests.golden.questions import golden_questions
from tests.golden.subjects import SUBJECTS
from tests.golden.traces import (
    Trace,
    open_recording,
    read_golden,
    read_questions,
    record,
)

_NUMBERS = ("level_probabilities", "expected_confidence", "template_probability")


def test_the_stored_questions_are_those_of_the_list() -> None:
    assert [asked.question for asked in read_questions().questions] == golden_questions()


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_runtime_repeats_the_traces(tmp_path: Path, name: str) -> None:
    subject = SUBJECTS[name]
    golden = read_golden(subject.traces)
    questions = read_questions().questions
    with open_recording(subject.make(TINY / "checkpoint", tmp_path / name)) as foggen:
        for asked in questions:
            assert tuple(foggen.prompt_ids(asked.question)) == asked.prompt_ids
        found = list(record(foggen, [asked.question for asked in questions], subject.modes))
    print(f"{name}: written by onnxruntime {golden.onnxruntime}, here {version('onnxruntime')}")
    all_same(found, golden.traces, subject.tolerance)


@pytest.mark.long
@pytest.mark.parametrize("machine", [HASWELL, "cortex-a76"])
@pytest.mark.parametrize("name", ["fp32", "int8", "int4"])
def test_other_processors_repeat_the_traces(tmp_path: Path, name: str, machine: str) -> None:
    root = Arm64Root()
    root.make()
    subject = SUBJECTS[name]
    bundle = subject.make(TINY / "checkpoint", tmp_path / name)
    printed = run_python(root, machine, ["-m", "tests.golden.replay", str(bundle), *subject.modes])
    found = [
        from_json(Trace, json.loads(line), f"{name} on {machine}") for line in printed.splitlines()
    ]
    stored = [trace for trace in read_golden(subject.traces).traces if trace.route == "auto"]
    all_same(found, stored, subject.tolerance)


def all_same(found: Sequence[Trace], stored: Sequence[Trace], tolerance: float) -> None:
    assert len(found) == len(stored)
    for one, reference in zip(found, stored, strict=True):
        same(one, reference, tolerance)


def same(ours: Trace, stored: Trace, tolerance: float) -> None:
    where = f"question {stored.question}, {stored.mode}, {stored.route}"
    assert ours.tokens == stored.tokens, where
    assert ours.passes == stored.passes, where
    assert words(ours) == words(stored), where
    for name in _NUMBERS:
        assert ours.result[name] == pytest.approx(stored.result[name], abs=tolerance), where


def words(trace: Trace) -> dict[str, Any]:
    return {name: value for name, value in trace.result.items() if name not in _NUMBERS}
