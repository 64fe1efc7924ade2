"""Small wheels, made on the spot, in place of the real ones."""

import base64
import hashlib
import importlib.metadata
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from foggen_exporter.packaging.targets import Target

PURE = "py3-none-any"
# What foggen needs on a board, and the tags of the wheels that exist of it.
BINARY = ("numpy", "onnxruntime", "regex")


def make_wheel(
    directory: Path,
    name: str,
    number: str,
    tag: str = PURE,
    files: Mapping[str, bytes] | None = None,
    metadata: Sequence[str] = ("License-Expression: MIT",),
) -> Path:
    stem = f"{name.replace('-', '_')}-{number}"
    info = f"{stem}.dist-info"
    head = [f"Metadata-Version: 2.4\nName: {name}\nVersion: {number}", *metadata]
    contents = {
        **(files or {}),
        f"{info}/METADATA": "\n".join(head).encode() + b"\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        f"{info}/licenses/LICENSE": f"The licence of {name}.\n".encode(),
    }
    lines = []
    for path, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        lines.append(f"{path},sha256={digest},{len(content)}\n")
    contents[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    directory.mkdir(parents=True, exist_ok=True)
    wheel = directory / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in contents.items():
            archive.writestr(member, content)
    return wheel


def make_typical_wheel(
    directory: Path, name: str, number: str, target: Target, python: str
) -> Path:
    """Make a wheel of a distribution, tagged as the real one is."""
    interpreter = "cp" + python.replace(".", "")
    module = name.replace("-", "_")
    library = f"{module}/_core.cpython-{interpreter[2:]}-{target.machine}-linux-gnu.so"
    if name in BINARY:
        tag = f"{interpreter}-{interpreter}-manylinux_2_28_{target.machine}"
        # Directories of the trimmed kind, which must not come through.
        files = {library: interpreter.encode() * 5000, f"{module}/quantization/tool.py": b"1\n"}
        return make_wheel(directory, name, number, tag, files)
    return make_wheel(directory, name, number)


def fill_for_foggen(directory: Path, target: Target, pythons: Sequence[str]) -> None:
    """Put wheels of everything that foggen needs directly into a cache, in installed versions."""
    for line in importlib.metadata.requires("foggen") or ():
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": "serve"}):
            for python in pythons:
                version = importlib.metadata.version(need.name)
                make_typical_wheel(directory, need.name, version, target, python)
