"""Breaks the code in every way that `mutants.toml` lists, and checks that a test notices each.

    make test-mutants
    python -m tests.mutants.kill [WORDS OF A NAME ...]

Each mutant is made in a copy of the working tree by a sed script. It must change the file, and the
tests named for it, which pass on the unchanged copy, must fail.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutants.toml")
PACKAGES = ("runtime", "exporter")
# How pytest ends where tests failed, and where they could not even be collected.
_FAILED, _INTERRUPTED = 1, 2


@dataclass(frozen=True)
class Mutant:
    """One way to break the code.

    Attributes:
        name: What is wrong with it.
        file: What is changed, relative to the project's root.
        sed: How, as a script for `sed --regexp-extended`.
        tests: What must notice, as pytest takes it.
    """

    name: str
    file: str
    sed: str
    tests: tuple[str, ...]


def read_mutants() -> list[Mutant]:
    """Read the list: under each file its mutants, with the tests of the file or their own."""
    document = tomllib.loads(LIST.read_text(encoding="utf-8"))
    return [
        Mutant(
            entry["name"], group["file"], entry["sed"], tuple(entry.get("tests", group["tests"]))
        )
        for group in document["group"]
        for entry in group["mutants"]
    ]


def main(words: Sequence[str]) -> int:
    """Try the mutants whose names hold all words; return how many lived."""
    mutants = [mutant for mutant in read_mutants() if all(word in mutant.name for word in words)]
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    with tempfile.TemporaryDirectory() as place:
        whole = _copy(Path(place) / "whole")
        if _run(whole, tests) != 0:
            sys.stderr.write("the tests fail on the unchanged code: mend that first\n")
            return 1
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            lived = list(pool.map(partial(_lives, Path(place)), range(len(mutants)), mutants))
    sys.stdout.write(f"{len(mutants) - sum(lived)} of {len(mutants)} mutants killed\n")
    return sum(lived)


def _lives(place: Path, number: int, mutant: Mutant) -> bool:
    copy = _copy(place / str(number))
    path = copy / mutant.file
    before = path.read_text(encoding="utf-8")
    subprocess.run(["sed", "-E", "-i", mutant.sed, path], check=True)
    changed = path.read_text(encoding="utf-8") != before
    compile(path.read_text(encoding="utf-8"), mutant.file, "exec")  # a slip of sed's is no mutant
    killed = changed and _run(copy, mutant.tests) in (_FAILED, _INTERRUPTED)
    shutil.rmtree(copy)
    fate = "killed" if killed else "LIVES" if changed else "CHANGES NOTHING"
    sys.stdout.write(f"{fate}: {mutant.name} ({mutant.file})\n")
    return not killed


def _copy(directory: Path) -> Path:
    """Copy what git knows of the working tree, new files included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    return directory


def _run(copy: Path, tests: Sequence[str]) -> int:
    paths = os.pathsep.join(str(copy / package) for package in PACKAGES)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, check=False, capture_output=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
