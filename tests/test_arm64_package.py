"""The ARM64 package, installed and asked on emulated processors. `make test-package` runs this.

What is emulated: Python, and all libraries it loads, run as ARM64 code under qemu's user mode. The
shell and the tools that install.sh calls (cp, sha256sum, df) are the host's. Every step after
making the package runs in a network namespace that has no network.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.emulation import decisions
from benchmarks.emulation.arm64_root import CPUS, Arm64Root
from benchmarks.emulation.decisions import Decided
from foggen_runtime.jsonio import from_json
from tests.conftest import TINY, BundleOf

pytestmark = pytest.mark.long

QUESTIONS = 200
MOST_NEAR_TIES = 4
RECIPE = "int8"
QUESTION = "Which is larger?\nA) 3\nB) 5"
WHEELS = Path(__file__).parent.parent / "work" / "packages" / "wheels"
MOST_BYTES = 20_000_000
NO_NETWORK = ("unshare", "--map-root-user", "--net")


@dataclass(frozen=True)
class Board:
    """A prefix that the package is installed in, and the Python it runs on."""

    python: Path
    prefix: Path

    @property
    def libraries(self) -> Path:
        return self.prefix / "lib" / "foggen" / "current" / "lib"

    @property
    def bundle(self) -> Path:
        return self.prefix / "lib" / "foggen" / "current" / "bundle"

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        command = [*NO_NETWORK, self.prefix / "bin" / "foggen", *words]
        return subprocess.run([str(word) for word in command], capture_output=True, text=True)


def package(bundle: Path, archive: Path, *options: str) -> dict[str, object]:
    command = [sys.executable, "-c", "from foggen_exporter.packaging import main; main()"]
    command += [str(bundle), "--target", "linux-arm64", "-o", str(archive), "--json"]
    command += ["--cache", str(WHEELS), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    facts: dict[str, object] = json.loads(done.stdout)
    return facts


@pytest.fixture(scope="module")
def unpacked(tiny_bundle: BundleOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("package")
    archive = directory / "foggen-arm64.tar.xz"
    package(tiny_bundle(RECIPE), archive, "--python", "3.11")
    subprocess.run(["tar", "xf", archive], cwd=directory, check=True)
    archive.unlink()
    (path,) = directory.glob("foggen-*-linux-arm64")
    return path


@pytest.fixture(scope="module", params=list(CPUS))
def board(
    request: pytest.FixtureRequest, unpacked: Path, tmp_path_factory: pytest.TempPathFactory
) -> Board:
    root = Arm64Root()
    root.make()
    directory = tmp_path_factory.mktemp(request.param)
    python = directory / "python3.11"
    emulator = [root.qemu_aarch64, "-cpu", request.param, "-L", root.sysroot(request.param)]
    words = " ".join(str(word) for word in (*emulator, root.python))
    python.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    python.chmod(0o755)
    prefix = directory / "prefix"
    script = [str(unpacked / "install.sh"), "--prefix", str(prefix), "--python", str(python)]
    subprocess.run([*NO_NETWORK, *script], check=True)
    return Board(python, prefix)


def test_there_is_no_network() -> None:
    names = [line.partition(":")[0].strip() for line in _interfaces(NO_NETWORK)]
    assert names == ["lo"]
    assert len(_interfaces(())) > 1, "the machine itself has one, or this test shows nothing"


def _interfaces(prefix: Sequence[str]) -> list[str]:
    done = subprocess.run(
        [*prefix, "cat", "/proc/self/net/dev"], check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()[2:]


def test_it_is_an_arm_python_that_imports_the_packaged_libraries_alone(board: Board) -> None:
    program = (
        "import os; from foggen_runtime.model.quiet_onnxruntime import ort; "
        "print(os.uname().machine, ort.__file__)"
    )
    done = subprocess.run(
        [board.python, "-P", "-S", "-c", program],
        env={**os.environ, "PYTHONPATH": str(board.libraries)},
        check=True,
        capture_output=True,
        text=True,
    )
    machine, file = done.stdout.split()
    assert machine == "aarch64"
    assert Path(file).is_relative_to(board.libraries)


def test_it_answers(board: Board) -> None:
    done = board.run("ask", board.bundle, QUESTION, "--tau", 0, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["source"] == "local"


def test_it_defers(board: Board, tiny_bundle: BundleOf) -> None:
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    script = [decisions.__file__, tiny_bundle(RECIPE), TINY / "heldout.jsonl"]
    here = _decide([sys.executable], [*script, "--questions", 20, "--tau", 1], None)
    unsure = next(line for line, one in zip(lines, here, strict=False) if not one.kept)
    done = board.run("ask", board.bundle, json.loads(unsure)["question"], "--tau", 1, "--json")
    result = json.loads(done.stdout)
    assert (done.returncode, result["source"], result["reason"]) == (5, "none", "below_tau")


def test_it_decides_as_this_machine(board: Board, tiny_bundle: BundleOf) -> None:
    script = [decisions.__file__, tiny_bundle(RECIPE), TINY / "heldout.jsonl"]
    script += ["--questions", QUESTIONS, "--tau", 0.5]
    there = _decide([*NO_NETWORK, board.python, "-P", "-S"], script, board.libraries)
    here = _decide([sys.executable], script, None)
    assert len(here) == QUESTIONS
    assert len({decided.kept for decided in here}) == 2, "some are kept, some deferred"
    pairs = list(zip(here, there, strict=True))
    assert [one.kept for one, _ in pairs] == [other.kept for _, other in pairs]
    # Levels and letters may differ at near ties, which kernels round each in their own way.
    levels = sum(one.confidence != other.confidence for one, other in pairs)
    letters = sum(one.choice != other.choice for one, other in pairs)
    assert max(levels, letters) <= MOST_NEAR_TIES


def _decide(
    python: Sequence[object], script: Sequence[object], libraries: Path | None
) -> list[Decided]:
    environment = {**os.environ, **({"PYTHONPATH": str(libraries)} if libraries else {})}
    done = subprocess.run(
        [str(word) for word in (*python, *script)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return [from_json(Decided, json.loads(line), "decision") for line in done.stdout.splitlines()]


def test_it_goes_away(board: Board, unpacked: Path, tmp_path: Path) -> None:
    copy = tmp_path / "prefix"
    shutil.copytree(board.prefix, copy, symlinks=True)
    subprocess.run([unpacked / "install.sh", "--uninstall", "--prefix", copy], check=True)
    assert not copy.exists()


def test_everything_but_the_model_is_small_for_all_pythons(
    tiny_bundle: BundleOf, tmp_path: Path
) -> None:
    archive = tmp_path / "foggen-arm64.tar.xz"
    facts = package(tiny_bundle(RECIPE), archive, "--without-model")
    assert facts["pythons"] == ["3.11", "3.12", "3.13"]
    assert archive.stat().st_size <= MOST_BYTES
