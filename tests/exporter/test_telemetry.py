"""Exporting leaves no file of onnxruntime's telemetry."""

import sys
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.support.telemetry import Home

EXECUTABLE = Path(sys.executable).parent / "foggen-export"


@pytest.mark.parametrize("more", [(), ("--report", "flips.md")])
def test_exporting_leaves_what_was_asked_for(more: tuple[str, ...], tmp_path: Path) -> None:
    home = Home(tmp_path / "user")
    export = (EXECUTABLE, TINY / "checkpoint", "--quant", "int4", "-o", "bundle")
    done = home.run([*export, *more])
    assert done.returncode == 0, done.stderr
    wanted = ("work/bundle/", "work/flips.")
    assert [name for name in home.left() if not name.startswith(wanted)] == []
