"""`foggen replay`, run as its user runs it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime import LogSettings
from foggen_runtime.cli import foggen
from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.evaluation.records import Record, RecordWriter, Tokens
from foggen_runtime.handoff.decision_log import DecisionLog
from foggen_runtime.result import BundleRef
from foggen_runtime.result import Result as Asked
from tests.support.recorded import HEADER, LEVELS

CONFIDENCES = [0.0, 0.25, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def write(path: Path, confidences: list[float]) -> Path:
    with RecordWriter(path, HEADER) as writer:
        for number, confidence in enumerate(confidences):
            writer.append(
                Record(
                    id=str(number),
                    domain="law" if number % 2 else "math",
                    answer="A",
                    local_answer="A" if confidence > 0.3 else "B",
                    local_choice="A" if confidence > 0.3 else "B",
                    local_correct=confidence > 0.3,
                    cloud_answer="A",
                    cloud_correct=True,
                    confidence=confidence,
                    expected_confidence=0.9 * confidence,
                    level_probabilities=None,
                    tokens=Tokens(100, 10),
                )
            )
    return path


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return write(tmp_path / "first.jsonl", CONFIDENCES)


def run(*arguments: str | Path | float) -> Result:
    return CliRunner().invoke(foggen, ["replay", *map(str, arguments)])


def test_taus_and_prices_are_replayed_by_hand(records: Path) -> None:
    result = run(records, "--tau", 0.5, "--tau", 0.8, "--prices", "per_call=2,prompt=0", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    half, high = document["sweep"]
    assert (half["tau"], half["routed_share"], half["cost"]) == (0.5, 3 / 8, 2 * 3 / 8)
    assert (high["tau"], high["routed_share"], high["cost"]) == (0.8, 5 / 8, 2 * 5 / 8)
    assert document["summary"]["tau"] == 0.5
    assert document["summary"]["system_accuracy"] == 1.0


def test_without_taus_the_levels_are_swept(records: Path) -> None:
    document = json.loads(run(records, "--json").stdout)
    assert [point["tau"] for point in document["sweep"]] == list(LEVELS)
    assert len(json.loads(run(records, "--steps", 101, "--json").stdout)["sweep"]) == 101
    table = run(records, "--on", "expected").stdout
    assert "at tau = 0.5 on expected confidence" in table
    assert "Thresholds" in table


def test_two_files_are_compared(records: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "second.jsonl", [0.0, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 0.25])
    document = json.loads(run(records, other, "--json").stdout)
    comparison = document["comparison"]
    assert comparison["flips"]["count"] == 2
    assert comparison["level_changes"] == 3
    assert comparison["changes"]["local_accuracy"]["difference"] == 0.0
    assert document["other"]["routed_share"] == 3 / 8
    text = run(records, other).stdout
    assert "flipped decisions" in text


def test_another_clouds_answers_are_used(records: Path, tmp_path: Path) -> None:
    answers = tmp_path / "cloud.jsonl"
    lines = [json.dumps({"id": str(i), "cloud_answer": "AB"[i == 0]}) for i in range(8)]
    answers.write_text("\n".join(lines), encoding="utf-8")
    document = json.loads(run(records, "--cloud-answers", answers, "--json").stdout)
    assert document["summary"]["cloud_accuracy"] == 7 / 8
    assert document["summary"]["system_accuracy"] == 7 / 8


def test_pictures_are_written(records: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    assert run(records, records, "--html", page).exit_code == 0
    assert "</svg>" in page.read_text(encoding="utf-8")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of 80 decisions at the levels of the records, ten times."""
    path = tmp_path / "log.jsonl"
    written = DecisionLog(LogSettings(file=path))
    bundle = BundleRef("tiny", HEADER.bundle_sha256)
    blank = Asked("A", "local", "confident", 0.5, "default", bundle)
    for confidence in CONFIDENCES * 10:
        written.write("?", replace(blank, confidence=confidence, expected_confidence=confidence))
    return path


def test_a_log_like_its_calibration_raises_no_alert(log: Path, tmp_path: Path) -> None:
    reference = write(tmp_path / "calibration.jsonl", CONFIDENCES * 10)
    result = run(log, "--against", reference, "--tau", 0.5, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["routed_shares"] == {"0.5": 3 / 8}
    assert document["drift"]["p_value"] == pytest.approx(1.0)
    assert document["level_counts"] == [0, 10, 20, 10, 10, 30]


def test_a_log_that_drifted_raises_an_alert(log: Path, tmp_path: Path) -> None:
    reference = write(tmp_path / "calibration.jsonl", [0.0, 0.0, 0.25, 1.0] * 20)
    result = run(log, "--against", reference)
    assert result.exit_code == 1
    assert "DRIFT: p < 0.01" in result.stdout
    assert run(log, "--against", reference, "--alert", 1e-300).exit_code == 0


def test_a_log_alone_gives_its_routed_share(log: Path) -> None:
    result = run(log)
    assert result.exit_code == 0
    assert "routed at tau 0.5: 37.50%" in result.stdout


def test_a_log_of_another_bundle_is_refused(log: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    with RecordWriter(path, replace(HEADER, bundle_sha256="7" * 64)):
        pass
    text = write(tmp_path / "r", CONFIDENCES).read_text(encoding="utf-8").split("\n", 1)[1]
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")
    assert len(Decisions.read(path)) == 8
    result = run(log, "--against", path)
    assert result.exit_code == 2
    assert "must hold a local decision of the bundle" in result.stderr


def test_against_goes_with_a_log(records: Path) -> None:
    result = run(records, "--against", records)
    assert result.exit_code == 2
    assert "against: needs a decision log" in result.stderr
