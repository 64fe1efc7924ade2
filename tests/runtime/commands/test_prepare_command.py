"""`foggen prepare`, and what `foggen inspect` says of it."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime.cli import foggen
from tests.conftest import BundleOf


@pytest.fixture
def bundle(tiny_bundle: BundleOf, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle("int4"), tmp_path / "bundle"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(foggen, [str(argument) for argument in arguments])


def test_it_says_what_it_needs_then_what_it_did(bundle: Path) -> None:
    done = run("prepare", bundle)
    assert done.exit_code == 0
    assert "Needs about " in done.stderr
    assert f"{bundle}.prepared: " in done.stdout
    assert "prepared        yes (" in run("inspect", bundle).stdout


def test_json(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    document = json.loads(run("prepare", bundle, "--output", target, "--json").stdout)
    assert (document["status"], document["directory"]) == ("ready", str(target))
    assert document["bytes"] == sum(path.stat().st_size for path in target.glob("model.onnx*"))
    assert json.loads(run("inspect", bundle, "--json").stdout)["prepared"]["status"] == "none"
    removed = json.loads(run("prepare", bundle, "-o", target, "--remove", "--json").stdout)
    assert removed == {"directory": str(target), "removed_bytes": document["bytes"]}


def test_removing(bundle: Path) -> None:
    assert "nothing was prepared" in run("prepare", bundle, "--remove").stdout
    run("prepare", bundle)
    assert ": removed, " in run("prepare", bundle, "--remove").stdout
    assert "prepared        no\n" in run("inspect", bundle).stdout


def test_a_stale_one_shows(bundle: Path) -> None:
    run("prepare", bundle)
    path = bundle.with_name("bundle.prepared") / "prepared.json"
    path.write_text(path.read_text().replace('"onnxruntime": "', '"onnxruntime": "0.'))
    assert "no longer: made for onnxruntime 0." in run("inspect", bundle).stdout


def test_help_has_an_example() -> None:
    done = run("prepare", "--help")
    assert "Example:" in done.stdout
