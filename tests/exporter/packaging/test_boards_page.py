"""docs/boards.md, followed step by step on this machine."""

import os
import re
import subprocess
from pathlib import Path

from tests.exporter.packaging.conftest import Unpacked

PAGE = (Path(__file__).parents[3] / "docs" / "boards.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


def block(beginning: str) -> str:
    (found,) = (text for text in BLOCKS if text.startswith(beginning))
    return str(found)


def test_the_steps_lead_to_an_answer(unpacked: Unpacked, tmp_path: Path) -> None:
    archive = tmp_path / "foggen-arm64.tar.xz"
    archive.symlink_to(unpacked.archive)
    sums = unpacked.archive.with_name(f"{unpacked.archive.name}.sha256").read_text()
    archive.with_name(f"{archive.name}.sha256").write_text(
        sums.replace(unpacked.archive.name, archive.name)
    )
    unpack = block("scp").partition("ssh pi@board\n")[2]
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / unpacked.python.name).symlink_to(unpacked.python)
    script = (
        "set -e\n"
        + unpack
        + block("foggen-*-linux-*/install.sh")
        + block("~/.local/bin/foggen ask")
    )
    done = subprocess.run(
        ["sh", "-c", script.replace("B) 5'", "B) 5' --tau 0")],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "[local: " in done.stderr
