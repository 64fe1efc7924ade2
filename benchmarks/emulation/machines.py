"""Asking questions on this machine and on emulated ones."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.emulation.arm64_root import CPUS, Arm64Root
from benchmarks.emulation.decisions import Decided
from benchmarks.workspace import REPOSITORY
from foggen_exporter.bundle.contents import CARD_FILE
from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.errors import BundleError
from foggen_runtime.files import sha256_file, write_text_atomically
from foggen_runtime.jsonio import from_json

NATIVE = "native"
HASWELL = "haswell"
MACHINES = (NATIVE, *CPUS, HASWELL)

TINY = REPOSITORY / "tests" / "tiny_foggen"
_HELD_OUT = TINY / "heldout.jsonl"
_SCRIPT = Path(__file__).with_name("decisions.py")


class EmulationError(RuntimeError):
    """The questions could not be asked on a machine."""


@dataclass(frozen=True)
class Run:
    """One recipe on one machine.

    Attributes:
        recipe: Its name.
        machine: One of `MACHINES`.
        kleidiai: Whether ARM's KleidiAI kernels may be used.
    """

    recipe: str
    machine: str
    kleidiai: bool = True

    def __str__(self) -> str:
        """Name the run for people."""
        return f"{self.recipe} on {self.machine}{'' if self.kleidiai else ' without KleidiAI'}"


@dataclass(frozen=True)
class Asker:
    """What all runs have in common.

    Attributes:
        root: The emulators and the ARM64 Python.
        questions: Ask so many, the first of the tiny FogGen's held-out ones.
        tau: Confidence below this defers.
        kept: Where the answers of finished runs are kept, so that an interrupted count goes on.
        only_kept: Whether to ask nothing more.
    """

    root: Arm64Root
    questions: int
    tau: float
    kept: Path
    only_kept: bool = False

    def ask(self, run: Run, bundle: Path) -> list[Decided]:
        """Return the decision on each question.

        Raises:
            EmulationError: The run failed, e.g. the bundle does not load there; or nothing is kept
                and nothing more is to be asked.
        """
        kept = self.kept / f"{self._key(run, bundle)}.jsonl"
        if not kept.exists():
            if self.only_kept:
                raise EmulationError(f"{run}: not asked")
            answers = self._answers(run, bundle)
            self.kept.mkdir(parents=True, exist_ok=True)
            write_text_atomically(kept, answers)
        lines = kept.read_text(encoding="utf-8").splitlines()
        return [from_json(Decided, json.loads(line), str(run)) for line in lines]

    def _key(self, run: Run, bundle: Path) -> str:
        """Hash what the answers depend on: the bundle's files, the questions and the machine."""
        try:
            files = Manifest.load(bundle).files
        except BundleError as error:
            raise EmulationError(f"{run}: {error}") from error
        hashes = {name: info.sha256 for name, info in files.items() if name != CARD_FILE}
        versions = [version("onnxruntime"), self.root.emulator_version()]
        parts = [asdict(run), self.questions, self.tau, hashes, sha256_file(_HELD_OUT), versions]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def _answers(self, run: Run, bundle: Path) -> str:
        words = [str(_SCRIPT), str(bundle), str(_HELD_OUT)]
        words += ["--questions", str(self.questions), "--tau", str(self.tau)]
        words += [] if run.kleidiai else ["--no-kleidiai"]
        try:
            return run_python(self.root, run.machine, words)
        except EmulationError as error:
            raise EmulationError(f"{run}: {error}") from error


def run_python(root: Arm64Root, machine: str, words: Sequence[str]) -> str:
    """Run a machine's Python and return what it prints.

    Args:
        root: The emulators and the ARM64 Python.
        machine: One of `MACHINES`.
        words: The arguments; what is run may import the runtime, and this repository's modules
            that need nothing else.

    Raises:
        EmulationError: It failed.
    """
    command, site = _python(root, machine)
    path = os.pathsep.join(str(part) for part in (*site, REPOSITORY / "runtime", REPOSITORY))
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise EmulationError(f"exit status {done.returncode}: {last}")
    return done.stdout


def _python(root: Arm64Root, machine: str) -> tuple[list[str], Sequence[Path]]:
    """Return the words that start a machine's Python, and where its libraries are."""
    if machine == NATIVE:
        return [sys.executable], ()
    if machine == HASWELL:
        return [str(root.qemu_x86_64), "-cpu", "Haswell", sys.executable], ()
    emulator = [str(root.qemu_aarch64), "-cpu", machine]
    sysroot = ["-L", str(root.sysroot(machine))]
    return [*emulator, *sysroot, str(root.python), "-S"], (root.site,)
