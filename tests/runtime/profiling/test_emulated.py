"""Profiling under an emulated ARM processor: correct fields, no speeds. Slow."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from foggen_runtime.profiling.schema import parse_profile
from tests.conftest import BundleOf

_START = "from foggen_runtime.cli import main; main()"
_QUICK = (
    *("--rounds", "1", "--questions", "4", "--warm-up", "1", "--pp", "16", "--tg", "4"),
    *("--repetitions", "1", "--threads", "1", "--no-spinning"),
)


@pytest.mark.long
@pytest.mark.parametrize(
    ("cpu", "name", "dot_product"),
    [("cortex-a76", "Cortex-A76", True), ("cortex-a72", "Cortex-A72", False)],
)
def test_an_emulated_board_profiles(
    tiny_bundle: BundleOf, cpu: str, name: str, dot_product: bool
) -> None:
    arm64_root = pytest.importorskip("benchmarks.emulation.arm64_root")
    root = arm64_root.Arm64Root()
    root.make()
    emulator = [str(root.qemu_aarch64), "-cpu", cpu, "-L", str(root.sysroot(cpu))]
    foggen = [str(root.python), "-S", "-c", _START]
    arguments = ["profile", str(tiny_bundle("int4")), *_QUICK, "--json"]
    path = os.pathsep.join((str(root.site), str(Path("runtime").resolve())))
    done = subprocess.run(
        [*emulator, *foggen, *arguments, "--launcher", shlex.join(emulator)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    profile = parse_profile(json.loads(done.stdout), "profile")
    assert profile.device.architecture == "aarch64"
    assert {group.name for group in profile.device.cores} == {name}
    assert ("asimddp" in profile.device.features) == dot_product
    assert {sample.reason for each in profile.rounds for sample in each.questions}
    assert set(profile.operators) == {"decision", "token"}
    assert Path(profile.settings.launcher[0]).name.startswith("qemu")
