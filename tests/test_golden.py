"""The runtime against the stored golden traces, which the Kotlin core is held to as well."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

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

# Kernels differ between versions of onnxruntime and between processors: absolute.
_TOLERANCE = {"fp32": 1e-4, "int8": 0.03, "int4": 0.05}
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
        found = record(foggen, [asked.question for asked in questions], subject.modes)
    print(f"{name}: written by onnxruntime {golden.onnxruntime}, here {version('onnxruntime')}")
    assert len(found) == len(golden.traces)
    for ours, stored in zip(found, golden.traces, strict=True):
        same(ours, stored, _TOLERANCE[subject.recipe])


def same(ours: Trace, stored: Trace, tolerance: float) -> None:
    where = f"question {stored.question}, {stored.mode}, {stored.route}"
    assert ours.tokens == stored.tokens, where
    assert ours.passes == stored.passes, where
    assert words(ours) == words(stored), where
    for name in _NUMBERS:
        assert ours.result[name] == pytest.approx(stored.result[name], abs=tolerance), where


def words(trace: Trace) -> dict[str, Any]:
    return {name: value for name, value in trace.result.items() if name not in _NUMBERS}
