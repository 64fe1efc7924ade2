"""The unit of systemd, against what the server does and what systemd knows."""

import resource
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from foggen_runtime.serving.connections import Limits
from foggen_runtime.serving.settings import Settings

TEMPLATE = files("foggen_exporter.packaging") / "templates" / "board" / "foggen.service"


def values() -> dict[str, str]:
    lines = TEMPLATE.read_text(encoding="utf-8").splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines) if value}


def test_it_may_open_as_many_files_as_all_connections_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allowed = int(values()["LimitNOFILE"])
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, allowed))
    most = Limits.of(Settings()).most
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 20, 1 << 20))
    assert most == Limits.of(Settings()).most


def test_it_waits_longer_than_the_server_takes_to_stop() -> None:
    assert int(values()["TimeoutStopSec"]) > Settings().grace + 10


def test_memory_and_log_are_bounded() -> None:
    unit = values()
    assert unit["MemoryMax"].endswith("%")
    lines = int(unit["LogRateLimitBurst"]) / int(unit["LogRateLimitIntervalSec"])
    assert lines * 3600 * 24 * 100 < 100e6  # bytes a day, if the log were always full


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_understands_it(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "foggen"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "foggen.service"
    text = TEMPLATE.read_text(encoding="utf-8")
    unit.write_text(text.replace("@PREFIX@", str(tmp_path)).replace("@BUNDLE@", "bundle"))
    verify = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(verify, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")
