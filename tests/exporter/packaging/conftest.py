"""A package for this machine, made of small wheels."""

import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from foggen_exporter.packaging.cli import package_command
from foggen_exporter.packaging.targets import TARGETS, Target
from tests.conftest import BundleOf
from tests.support.wheels import fill_for_foggen

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = Path(np.__file__).parent.parent


@dataclass(frozen=True)
class Unpacked:
    """The package of the tiny FogGen, unpacked.

    Attributes:
        archive: What it was unpacked from.
        directory: Where it lies. Do not write to it.
        bundle: The bundle that went in.
        python: Starts this Python, and lends it the libraries that the small wheels lack.
    """

    archive: Path
    directory: Path
    bundle: Path
    python: Path


def this_machine() -> Target:
    for target in TARGETS.values():
        if target.machine == platform.machine():
            return target
    pytest.skip(f"no package is made for {platform.machine()}")


def make_python(path: Path, startup: Path | None = None) -> Path:
    """Write a program that is this Python with its libraries, whatever `-S` says."""
    places = f"{SITE}:{startup}" if startup else str(SITE)
    path.write_text(
        f'#!/bin/sh\nPYTHONPATH="${{PYTHONPATH:-/}}:{places}" exec {sys.executable} "$@"\n'
    )
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of small wheels for every target and Python."""
    directory = tmp_path_factory.mktemp("wheels")
    for target in TARGETS.values():
        fill_for_foggen(directory, target, ("3.11", "3.12", "3.13"))
    return directory


@pytest.fixture(scope="session")
def unpacked(
    tiny_bundle: BundleOf, wheels: Path, tmp_path_factory: pytest.TempPathFactory
) -> Unpacked:
    root = tmp_path_factory.mktemp("board")
    archive = root / "foggen.tar.xz"
    bundle = tiny_bundle("int4")
    words = [bundle, "--target", this_machine().name, "--python", PYTHON, "-o", archive]
    words += ["--cache", wheels]
    result = CliRunner().invoke(package_command, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    subprocess.run(["tar", "xf", archive], cwd=root, check=True)
    (directory,) = (path for path in root.iterdir() if path.is_dir())
    return Unpacked(archive, directory, bundle, make_python(root / f"python{PYTHON}"))
