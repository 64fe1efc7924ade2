"""What is left out of wheels, and that libraries still load without their symbol tables."""

import re
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import files
from pathlib import Path

import pytest

import foggen_runtime
from foggen_exporter.packaging.trimming import is_licence, is_needed, without_symbols


@pytest.mark.parametrize(
    ("distribution", "name", "needed"),
    [
        ("numpy", "numpy/__init__.py", True),
        ("numpy", "numpy/__init__.pyi", False),
        ("numpy", "numpy/testing/__init__.py", True),
        ("numpy", "numpy/_core/tests/test_umath.py", False),
        ("numpy", "numpy/_core/_umath_tests.cpython-311-aarch64-linux-gnu.so", False),
        ("numpy", "numpy/_core/_multiarray_umath.cpython-311-aarch64-linux-gnu.so", True),
        ("numpy", "numpy.libs/libgfortran-da.so.5.0.0", True),
        ("numpy", "numpy/random/_generator.cpython-311-aarch64-linux-gnu.so", False),
        ("numpy", "numpy/ma/LICENSE", False),
        ("onnxruntime", "onnxruntime/capi/libonnxruntime.so.1.32.0", False),
        ("onnxruntime", "onnxruntime/capi/libonnxruntime_providers_shared.so", True),
        ("onnxruntime", "onnxruntime/transformers/optimizer.py", False),
        ("httpx", "httpx-0.28.1.dist-info/METADATA", True),
        ("httpx", "httpx-0.28.1.dist-info/RECORD", False),
    ],
)
def test_what_is_needed(distribution: str, name: str, *, needed: bool) -> None:
    assert is_needed(distribution, name) is needed


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("numpy/fft/pocketfft/LICENSE.md", True),
        ("x-1.dist-info/licenses/AUTHORS.rst", True),
        ("onnxruntime/ThirdPartyNotices.txt", True),
        ("tokenizers-1.dist-info/sboms/x.cyclonedx.json", True),
        ("x/licensing.py", False),
        ("x/__init__.py", False),
    ],
)
def test_what_is_a_licence(name: str, *, licence: bool) -> None:
    assert is_licence(name) is licence


def test_the_runtime_does_not_use_what_is_left_out() -> None:
    trimmed = re.compile(
        r"(np|numpy)\.(random|f2py)|onnxruntime\.(quantization|tools|transformers)"
    )
    for path in Path(foggen_runtime.__file__).parent.rglob("*.py"):
        assert not trimmed.search(path.read_text(encoding="utf-8")), path


def test_a_library_without_symbols_loads(tmp_path: Path) -> None:
    library = next(
        Path(str(path.locate()))
        for path in files("numpy") or ()
        if path.name == f"_umath_linalg{EXTENSION_SUFFIXES[0]}"
    )
    content = library.read_bytes()
    slim = without_symbols(content)
    assert len(slim) <= len(content)
    assert slim != content
    copy = tmp_path / library.name
    copy.write_bytes(slim)
    listed = _readelf("--program-headers", copy), _readelf("--program-headers", library)
    assert listed[0] == listed[1]
    assert "There are no sections" in _readelf("--section-headers", copy)
    # Loads all that the program headers name, and finds what it exports.
    loading = f"import ctypes, sys; ctypes.PyDLL({str(copy)!r}).PyInit__umath_linalg"
    libraries = library.parent.parent.parent / "numpy.libs"
    subprocess.run(
        [sys.executable, "-c", f"import numpy.linalg; {loading}"],
        env={"LD_LIBRARY_PATH": str(libraries)},
        check=True,
    )


def _readelf(option: str, path: Path) -> str:
    done = subprocess.run(
        ["readelf", option, "--wide", path], check=True, capture_output=True, text=True
    )
    return done.stdout.partition("Section to Segment mapping")[0].rstrip()


@pytest.mark.parametrize("content", [b"", b"import os\n", b"\x7fELF\x01\x01 of 32 bits"])
def test_other_files_stay_as_they_are(content: bytes) -> None:
    assert without_symbols(content) == content
