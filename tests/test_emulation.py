"""Decisions on emulated processors are those of this machine. `make test-emulation` runs them."""

from pathlib import Path

import pytest

from benchmarks.emulation.arm64_root import Arm64Root
from benchmarks.emulation.decisions import Decided
from benchmarks.emulation.difference import differ
from benchmarks.emulation.flips import ask_everywhere, rows_of
from benchmarks.emulation.machines import NATIVE, Asker, EmulationError, Run
from benchmarks.emulation.report import Report
from tests.conftest import BundleOf

QUESTIONS = 12


def decided(*, kept: bool, confidence: float, choice: str) -> Decided:
    return Decided(kept, confidence, (1 - confidence, confidence), confidence, choice)


def test_a_flip_is_a_question_kept_by_one_and_deferred_by_the_other() -> None:
    reference = [decided(kept=True, confidence=0.75, choice="A")] * 4
    flipped = decided(kept=False, confidence=0.25, choice="A")
    moved = decided(kept=True, confidence=1.0, choice="B")
    difference = differ([flipped, moved, moved, reference[0]], reference)
    assert difference.flips == 1
    assert difference.flip_rate == 0.25
    assert difference.flip_rate_upper_bound == pytest.approx(0.7514, abs=1e-4)
    assert difference.level_changes == 0.75
    assert difference.answer_agreement == 0.5
    assert difference.confidence_change == pytest.approx((0.5 + 0.25 + 0.25) / 4)


def test_malformed_decisions_have_no_expected_confidence() -> None:
    malformed = [Decided(False, None, None, None, None)]
    assert differ(malformed, malformed).confidence_change is None


def test_a_run_that_fails_is_reported_with_its_reason(tmp_path: Path) -> None:
    run = Run("fp32", NATIVE)
    asker = Asker(Arm64Root(tmp_path), 1, 0.5, tmp_path)
    found, failures = ask_everywhere([run], asker, {"fp32": tmp_path / "missing"}, jobs=1)
    assert not found
    assert "missing" in failures[0]
    report = Report("x86_64", "qemu 7", "1.32", 0.5, 1, rows=(), failures=tuple(failures))
    assert failures[0] in report.page()


def test_nothing_more_is_asked_where_only_what_is_kept_counts(
    tmp_path: Path, tiny_bundle: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Arm64Root, "emulator_version", lambda _: "qemu 7")
    run, bundle, root = Run("int4", NATIVE), tiny_bundle("int4"), Arm64Root(tmp_path)
    with pytest.raises(EmulationError, match="int4 on native: not asked"):
        Asker(root, 2, 0.5, tmp_path, only_kept=True).ask(run, bundle)
    asked = Asker(root, 2, 0.5, tmp_path).ask(run, bundle)
    assert Asker(root, 2, 0.5, tmp_path, only_kept=True).ask(run, bundle) == asked


def test_every_run_is_compared_with_fp32_and_with_its_own_recipe() -> None:
    runs = [Run("fp32", NATIVE), Run("int4", NATIVE), Run("int4", "cortex-a76", kleidiai=False)]
    kept = decided(kept=True, confidence=0.5, choice="A")
    deferred = decided(kept=False, confidence=0.25, choice="A")
    rows = rows_of(runs, dict(zip(runs, ([kept], [deferred], [deferred]), strict=True)))
    assert [row.against_fp32.flips for row in rows] == [0, 1, 1]
    assert [row.against_native.flips for row in rows] == [0, 0, 0]


@pytest.mark.long
def test_a_cortex_a76_decides_as_this_machine_in_fp32(
    tiny_bundle: BundleOf, tmp_path: Path
) -> None:
    root = Arm64Root()
    root.make()
    asker = Asker(root, QUESTIONS, 0.5, tmp_path)
    native, emulated = (
        asker.ask(Run("fp32", machine), tiny_bundle("fp32")) for machine in (NATIVE, "cortex-a76")
    )
    assert len(emulated) == QUESTIONS
    for here, there in zip(native, emulated, strict=True):
        assert (there.confidence, there.choice) == (here.confidence, here.choice)
        assert there.level_probabilities == pytest.approx(here.level_probabilities, abs=1e-3)
