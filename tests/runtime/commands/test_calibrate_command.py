"""`foggen calibrate`, run as its user runs it, and what the runtime makes of it."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime import ConfigError, Foggen
from foggen_runtime.bundle.manifest import MANIFEST_FILE, Manifest
from foggen_runtime.cli import foggen
from foggen_runtime.model.decoding import Decoding
from tests.conftest import TINY, BundleOf

LINES = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:150]


@pytest.fixture(scope="module")
def recorded(tiny_bundle: BundleOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("records")
    (directory / "data.jsonl").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    path = directory / "records.jsonl"
    words = ["eval", tiny_bundle("int4"), directory / "data.jsonl", "--records", path]
    done = CliRunner().invoke(foggen, [*map(str, words), "--threads", "1", "--no-spinning"])
    assert done.exit_code == 0, done.stderr
    return path


@pytest.fixture
def bundle(tiny_bundle: BundleOf, tmp_path: Path) -> Path:
    path = tmp_path / "int4"
    shutil.copytree(tiny_bundle("int4"), path)
    return path


def run(bundle: Path, *arguments: str | Path | float) -> Result:
    return CliRunner().invoke(foggen, ["calibrate", str(bundle), *map(str, arguments)])


def test_tau_is_written_without_changing_the_bundles_hash(bundle: Path, recorded: Path) -> None:
    before = Manifest.load(bundle)
    result = run(bundle, "--records", recorded, "--max-cloud-share", 0.5, "--json")
    assert result.exit_code == 0, result.stderr
    after = Manifest.load(bundle)
    assert after.sha256 == before.sha256
    printed = json.loads(result.stdout)
    assert after.routing.calibration
    assert printed["tau"] == after.routing.tau == after.routing.calibration.tau
    rows = [json.loads(line) for line in recorded.read_text(encoding="utf-8").splitlines()]
    assert printed["data_sha256"] == rows[0]["data_sha256"]
    confidences = [row["confidence"] for row in rows[1:]]
    assert printed["observed"] == sum(c < printed["tau"] for c in confidences) / 150 <= 0.5
    levels = [0.0, 0.25, 0.5, 0.75, 1.0]
    assert printed["level_shares"] == [confidences.count(level) / 150 for level in levels]
    names = {path.name for path in bundle.iterdir()}
    assert not [name for name in names if name.startswith(".foggen.json")]


def test_asking_uses_and_reports_the_calibration(bundle: Path, recorded: Path) -> None:
    words = ("--records", recorded, "--max-cloud-share", 0.3, "--on", "expected")
    assert run(bundle, *words).exit_code == 0
    tau = Manifest.load(bundle).routing.tau
    differs = 0
    with Foggen.open(bundle) as opened:
        for line in LINES:
            result = opened.ask(json.loads(line)["question"])
            assert (result.tau, result.tau_source, result.tau_on) == (
                tau,
                "calibration",
                "expected",
            )
            assert result.expected_confidence is not None
            assert result.confidence is not None
            kept = result.reason == "confident"
            assert kept == (result.expected_confidence >= tau)
            differs += kept != (result.confidence >= tau)
        with pytest.raises(ConfigError, match="calibrated on expected confidence, is step"):
            opened.ask("Why?", decoding=Decoding("step"))
    assert differs
    shown = CliRunner().invoke(foggen, ["ask", str(bundle), json.loads(LINES[0])["question"]])
    assert "expected confidence 0.99" in shown.stderr
    assert f">= tau {tau:.4g}" in shown.stderr
    inspected = CliRunner().invoke(foggen, ["inspect", str(bundle)]).stdout
    assert "on expected confidence (max_cloud_share 0.3, observed, 150 questions" in inspected


def test_a_guarantee_is_written_with_its_bound(bundle: Path, recorded: Path) -> None:
    result = run(bundle, "--records", recorded, "--max-risk", 0.25, "--confidence", 0.9)
    assert result.exit_code == 0, result.stderr
    calibration = Manifest.load(bundle).routing.calibration
    assert calibration
    assert (calibration.method, calibration.certainty) == ("clopper-pearson", 0.9)
    assert calibration.bound is not None
    assert calibration.observed < calibration.bound <= 0.25
    assert "with confidence 0.9 (clopper-pearson)" in result.stdout


def test_what_the_data_cannot_support_writes_nothing(bundle: Path, recorded: Path) -> None:
    before = (bundle / MANIFEST_FILE).read_bytes()
    result = run(bundle, "--records", recorded, "--max-risk", 0.01)
    assert result.exit_code == 2
    assert "--max-risk: 0.01 with confidence 0.95 is not supported by the data" in result.stderr
    assert (bundle / MANIFEST_FILE).read_bytes() == before


def test_a_dry_run_writes_nothing(bundle: Path, recorded: Path) -> None:
    before = (bundle / MANIFEST_FILE).read_bytes()
    result = run(bundle, "--records", recorded, "--max-cloud-share", 0.5, "--dry-run")
    assert result.exit_code == 0
    assert "nothing was written" in result.stdout
    assert (bundle / MANIFEST_FILE).read_bytes() == before


def test_the_bundle_is_run_where_there_are_no_records(bundle: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(LINES[:30]), encoding="utf-8")
    result = run(bundle, data, "--max-cloud-share", 0.5, "--threads", 1, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["questions"] == 30


def test_records_of_another_bundle_are_refused(tiny_bundle: BundleOf, recorded: Path) -> None:
    result = run(tiny_bundle("int8"), "--records", recorded, "--max-risk", 0.3)
    assert result.exit_code == 2
    assert "records: must be of this bundle" in result.stderr


@pytest.mark.parametrize("targets", [[], ["--max-risk", "0.1", "--max-cost", "1"]])
def test_one_target_must_be_given(bundle: Path, recorded: Path, targets: list[str]) -> None:
    result = run(bundle, "--records", recorded, *targets)
    assert result.exit_code == 2
    assert "target: give exactly one of --max-cloud-share" in result.stderr


def test_a_tau_that_the_calibration_did_not_choose_is_refused(bundle: Path, recorded: Path) -> None:
    run(bundle, "--records", recorded, "--max-cloud-share", 0.5)
    document = json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
    document["routing"]["tau"] = 0.1
    (bundle / MANIFEST_FILE).write_text(json.dumps(document), encoding="utf-8")
    result = CliRunner().invoke(foggen, ["inspect", str(bundle)])
    assert result.exit_code == 3
    assert "calibration.tau: must be the tau it chose, 0.1" in result.stderr
