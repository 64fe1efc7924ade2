"""Bundles of the tiny FogGen, kept between test runs while nothing they depend on changes.

A bundle lies in a directory named after a hash of all it is made from: the sources of exporter and
runtime, the checkpoint, the libraries and the processor, whose kernels calibration runs on.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

from foggen_runtime.bundle.bundle import Bundle
from tests.support.export import export_bundle

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "work" / "test-bundles"
SOURCES = ("runtime/foggen_runtime", "exporter/foggen_exporter")
LIBRARIES = ("ml_dtypes", "numpy", "onnx", "onnxruntime", "tokenizers", "transformers")
_GENERATIONS = 3


def kept_bundle(checkpoint: Path, quant: str) -> Path:
    """Return a bundle with default settings, exported unless an equal one is kept."""
    directory = KEPT / source_hash(checkpoint)
    bundle = directory / quant
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory / f"{quant}.lock"):
        if not _is_whole(bundle):
            shutil.rmtree(bundle, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=directory) as place:
                export_bundle(checkpoint, Path(place) / quant, quant)
                (Path(place) / quant).rename(bundle)
    return bundle


@cache
def source_hash(checkpoint: Path) -> str:
    """Hash what a bundle is made from, and forget bundles that were made from older sources."""
    digest = hashlib.sha256()
    for root in (*(ROOT / source for source in SOURCES), checkpoint):
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(root)}\n".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update("".join(version(library) for library in LIBRARIES).encode())
    digest.update(_processor().encode())
    _forget_older(keep=_GENERATIONS)
    return digest.hexdigest()[:16]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else [platform.processor()]
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


def _is_whole(bundle: Path) -> bool:
    """Tell whether a kept bundle holds what was exported, and nothing a test left there."""
    if not bundle.exists():
        return False
    manifest = Bundle.open(bundle, verify=True).manifest
    found = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    return found == {*manifest.files, "foggen.json"}


def _forget_older(keep: int) -> None:
    if KEPT.exists():
        for directory in sorted(KEPT.iterdir(), key=os.path.getmtime)[:-keep]:
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
