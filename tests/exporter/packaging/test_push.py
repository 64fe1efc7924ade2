"""push.sh against a stand-in for adb that speaks the same command line."""

import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from foggen_exporter.packaging.cli import package_command
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import Manifest
from tests.conftest import BundleOf

APP = "org.example.foggen"
ADB = """#!/bin/sh
printf '%s\\n' "$ANDROID_SERIAL: $*" >>"$PHONE/log"
case $1 in
  push)
    shift
    [ "$1" != --sync ] || shift
    cp -R "$1" "$PHONE$2"
    ;;
  shell) sh -c "$(printf '%s' "$2" | sed "s|/data/local|$PHONE/data/local|g")" ;;
  *) exit 64 ;;
esac
"""
RUN_AS = """#!/bin/sh
cd "$PHONE/app/$1" || exit 1
shift
exec "$@"
"""


@pytest.fixture
def pushed(tiny_bundle: BundleOf, tmp_path: Path) -> Path:
    words = [str(tiny_bundle("int4")), "--target", "android", "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(package_command, words).exit_code == 0
    for name, text in (("adb", ADB), ("run-as", RUN_AS)):
        (tmp_path / "tools").mkdir(exist_ok=True)
        (tmp_path / "tools" / name).write_text(text)
        (tmp_path / "tools" / name).chmod(0o755)
    (tmp_path / "phone" / "app" / APP).mkdir(parents=True)
    (tmp_path / "phone" / "data" / "local" / "tmp").mkdir(parents=True)
    return tmp_path / "out" / "adb-push"


def push(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    root = directory.parent.parent
    path = f"{root / 'tools'}:{os.environ['PATH']}"
    return subprocess.run(
        [directory / "push.sh", *words],
        env={**os.environ, "PATH": path, "PHONE": str(root / "phone")},
        capture_output=True,
        text=True,
    )


def test_the_bundle_arrives_in_the_app(pushed: Path) -> None:
    done = push(pushed, APP, "emulator-5554")
    assert done.returncode == 0, done.stderr
    phone = pushed.parent.parent / "phone"
    (arrived,) = (phone / "app" / APP / "no_backup" / "foggen").iterdir()
    assert arrived.name == Manifest.load(arrived).sha256[:12]
    Bundle.open(arrived, verify=True)
    assert list((phone / "data" / "local" / "tmp").iterdir()) == []
    assert all(
        line.startswith("emulator-5554: ")
        for line in (phone / "log").read_text().split("\n")
        if line.strip() and not line.startswith(" ")
    )
    assert push(pushed, APP).returncode == 0


def test_what_was_damaged_on_the_way_does_not_arrive(pushed: Path) -> None:
    weights = pushed / "bundle" / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.unlink()
    weights.write_bytes(content)
    done = push(pushed, APP)
    assert done.returncode != 0
    assert "model.onnx.data: FAILED" in done.stderr
    assert list((pushed.parent.parent / "phone" / "app" / APP).iterdir()) == []


def test_an_app_that_is_not_there_is_told(pushed: Path) -> None:
    assert push(pushed, "org.example.other").returncode != 0
    assert "Usage: ./push.sh APPLICATION_ID" in push(pushed).stderr
