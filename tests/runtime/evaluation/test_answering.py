"""What is taken from a bundle's results."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from foggen_runtime import EngineError, EngineOptions, Foggen, OpenOptions, Result
from foggen_runtime.bundle.manifest import Manifest, RoutingInfo
from foggen_runtime.comparison.verdicts import Verdict, answer_all
from foggen_runtime.model.kv_cache import Float32
from foggen_runtime.result import BundleRef
from foggen_runtime.text.questions import Question, read_questions
from tests.conftest import TINY, BundleOf
from tests.support.calibrations import calibration

QUESTIONS = read_questions(TINY / "heldout.jsonl")[::40]


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


def test_a_level_is_kept_by_its_index() -> None:
    assert Verdict.of(result("mode", 0.5), (0.0, 0.5)) == Verdict(1, 0.6, "B", "B")


@pytest.mark.parametrize(("reason", "confidence"), [("malformed", 0.5), ("context_length", None)])
def test_without_a_meaningful_level_there_is_none(reason: str, confidence: float | None) -> None:
    assert Verdict.of(result(reason, confidence), (0.0, 0.5)).level is None


@pytest.mark.parametrize("tau", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_decisions_are_those_of_asking(foggen: Foggen, tau: float) -> None:
    found = answer_all(foggen, QUESTIONS, lambda: None)
    kept = [foggen.ask(question.question, tau).source == "local" for question in QUESTIONS]
    assert found.bundle.tau_on == "verbalized"
    assert [confidence >= tau for confidence in found.compared] == kept


@pytest.mark.parametrize("tau", [0.7, 0.95])
def test_decisions_on_expected_confidence_are_those_of_asking(
    tiny_bundle: BundleOf, tmp_path: Path, tau: float
) -> None:
    directory = Path(shutil.copytree(tiny_bundle("int4"), tmp_path / "bundle"))
    manifest = Manifest.load(directory)
    replace(manifest, routing=RoutingInfo(0.5, calibration(0.5, "expected"))).save(directory)
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    with Foggen.open(directory, options=options) as opened:
        found = answer_all(opened, QUESTIONS, lambda: None)
        kept = [opened.ask(question.question, tau).source == "local" for question in QUESTIONS]
    assert found.bundle.tau_on == "expected"
    assert [confidence >= tau for confidence in found.compared] == kept
    assert [confidence >= tau for confidence in found.confidences] != kept


def test_every_question_is_answered_here_and_counted(foggen: Foggen) -> None:
    calls: list[int] = []
    found = answer_all(foggen, QUESTIONS, lambda: calls.append(1))
    assert len(calls) == len(found.verdicts) == len(QUESTIONS)
    assert all(verdict.choice for verdict in found.verdicts)
    assert len({verdict.level for verdict in found.verdicts}) > 1
    assert (found.bundle.recipe, found.levels) == ("int4", ("0.0", "0.25", "0.5", "0.75", "1.0"))
    assert found.bundle.sha256 == foggen.model.bundle.manifest.sha256


def test_a_question_that_is_too_long_defers(foggen: Foggen) -> None:
    (verdict,) = answer_all(foggen, [Question("word " * 5000)], lambda: None).verdicts
    assert verdict == Verdict(None)


def test_a_failing_model_is_no_deferral(foggen: Foggen) -> None:
    def fail(ids: Sequence[int]) -> Float32:
        raise EngineError("no memory")

    foggen.model.engine.forward = fail  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="question q7: no memory"):
        answer_all(foggen, [Question("Why?", id="q7")], lambda: None)
    with pytest.raises(EngineError, match="question 1: no memory"):
        answer_all(foggen, [Question("Why?")], lambda: None)
