"""What is recorded of a bundle's results."""

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from foggen_runtime import EngineError, EngineOptions, Foggen, OpenOptions, Result
from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.manifest import Manifest, RoutingInfo
from foggen_runtime.evaluation.answering import evaluate
from foggen_runtime.evaluation.comparison import compared
from foggen_runtime.evaluation.records import Record
from foggen_runtime.result import BundleRef
from foggen_runtime.text.questions import Question, read_questions
from tests.conftest import TINY, BundleOf
from tests.support.calibrations import calibration

QUESTIONS = read_questions(TINY / "heldout.jsonl").questions[::40]


@pytest.fixture
def foggen(tiny_bundle: BundleOf) -> Iterator[Foggen]:
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    with Foggen.open(tiny_bundle("int4"), options=options) as opened:
        yield opened


def result(reason: str, confidence: float | None) -> Result:
    return Result(
        answer="B",
        choice="B",
        source="local",
        reason=reason,
        confidence=confidence,
        expected_confidence=0.6,
        tau=0.5,
        tau_source="default",
        bundle=BundleRef("tiny", "0"),
    )


def test_an_answer_is_recorded_with_its_confidence() -> None:
    record = Record.of(Question("1", "Why?"), result("mode", 0.5))
    assert (record.confidence, record.expected_confidence) == (0.5, 0.6)
    assert (record.local_answer, record.local_choice) == ("B", "B")
    assert (record.answer, record.local_correct, record.cloud_correct) == (None, None, None)
    assert Record.of(Question("1", "Why?", "B"), result("mode", 0.5)).local_correct is True


@pytest.mark.parametrize(("reason", "confidence"), [("malformed", 0.5), ("context_length", None)])
def test_malformed_output_has_no_confidence(reason: str, confidence: float | None) -> None:
    record = Record.of(Question("1", "Why?"), result(reason, confidence))
    assert (record.confidence, record.expected_confidence) == (None, None)


@pytest.mark.parametrize("tau", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_decisions_are_those_of_asking(foggen: Foggen, tau: float) -> None:
    found = evaluate(foggen, QUESTIONS, lambda: None)
    kept = [foggen.ask(question.question, tau).source == "local" for question in QUESTIONS]
    assert found.bundle.tau_on == "verbalized"
    assert [compared(record, found.bundle.tau_on) >= tau for record in found.records] == kept


@pytest.mark.parametrize("tau", [0.7, 0.95])
def test_decisions_on_expected_confidence_are_those_of_asking(
    tiny_bundle: BundleOf, tmp_path: Path, tau: float
) -> None:
    directory = Path(shutil.copytree(tiny_bundle("int4"), tmp_path / "bundle"))
    manifest = Manifest.load(directory)
    replace(manifest, routing=RoutingInfo(0.5, calibration(0.5, "expected"))).save(directory)
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    with Foggen.open(directory, options=options) as opened:
        found = evaluate(opened, QUESTIONS, lambda: None)
        kept = [opened.ask(question.question, tau).source == "local" for question in QUESTIONS]
    assert found.bundle.tau_on == "expected"
    assert [compared(record, found.bundle.tau_on) >= tau for record in found.records] == kept
    assert [compared(record, "verbalized") >= tau for record in found.records] != kept


def test_every_question_is_answered_here_and_counted(foggen: Foggen) -> None:
    calls: list[int] = []
    found = evaluate(foggen, QUESTIONS, lambda: calls.append(1))
    assert len(calls) == len(found.records) == len(QUESTIONS)
    assert all(record.local_choice for record in found.records)
    assert len({record.confidence for record in found.records}) > 1
    assert (found.bundle.recipe, found.levels) == ("int4", ("0.0", "0.25", "0.5", "0.75", "1.0"))
    assert found.bundle.sha256 == foggen.model.bundle.manifest.sha256


def test_a_question_that_is_too_long_defers(foggen: Foggen) -> None:
    (record,) = evaluate(foggen, [Question("1", "word " * 5000)], lambda: None).records
    assert compared(record, "verbalized") == compared(record, "expected") == -math.inf
    assert record.local_answer is None


def test_a_failing_model_is_no_deferral(foggen: Foggen) -> None:
    def fail(ids: Sequence[int]) -> Float32:
        raise EngineError("no memory")

    foggen.model.engine.forward = fail  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="question q7: no memory"):
        evaluate(foggen, [Question("q7", "Why?")], lambda: None)
