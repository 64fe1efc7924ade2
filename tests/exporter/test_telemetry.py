"""Exporting leaves no file of onnxruntime's telemetry."""

import sys
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.support.telemetry import Home

EXECUTABLE = Path(sys.executable).parent / "foggen-export"


FEW = ("--report", "flips.md", "--data", "questions.jsonl")


@pytest.mark.parametrize("more", [(), FEW])
def test_exporting_leaves_what_was_asked_for(more: tuple[str, ...], tmp_path: Path) -> None:
    home = Home(tmp_path / "user")
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    questions = home.root / "work" / "questions.jsonl"
    questions.parent.mkdir(parents=True)
    questions.write_text("".join(lines[:8]), encoding="utf-8")
    export = (EXECUTABLE, TINY / "checkpoint", "--quant", "int4", "-o", "bundle")
    done = home.run([*export, *more])
    assert done.returncode == 0, done.stderr
    wanted = ("work/bundle/", "work/flips.", "work/questions.jsonl")
    assert [name for name in home.left() if not name.startswith(wanted)] == []
