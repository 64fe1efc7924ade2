"""A prepared model: a bundle's weights packed for one processor, written once, mapped later.

Whenever onnxruntime opens a model, it packs the weights into the form its kernels read. Once
written to a file, the packed weights are mapped from there: memory that the system can take back
and that processes can share. They are valid for one onnxruntime, one instruction set and one
bundle, as the key says; under any other key the prepared model is ignored and the bundle opens as
it is.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.checked_files import VERIFIED_FILE, CheckedFiles
from foggen_runtime.bundle.manifest import MAX_MANIFEST_BYTES, FileInfo, check_file_name
from foggen_runtime.files import read_small_text, sha256_file
from foggen_runtime.jsonio import FieldError, from_json, parse_json
from foggen_runtime.model.engine import ONNXRUNTIME_VERSION, EngineOptions
from foggen_runtime.model.processor import processor_id
from foggen_runtime.placing import Kind

PREPARED_FILE = "prepared.json"
PREPARED_GRAPH_FILE = "model.onnx"
_NOT_OURS = "its files were changed, or prepared by another user; run foggen prepare again"


@dataclass(frozen=True)
class PreparedKey:
    """What packed weights depend on.

    Attributes:
        onnxruntime: Its version.
        processor: Architecture and instructions.
        kleidiai: Whether ARM's KleidiAI kernels are used.
        model: The hashes of the bundle's graph and weights, by name.
    """

    onnxruntime: str
    processor: str
    kleidiai: bool
    model: dict[str, str]

    @classmethod
    def of(cls, bundle: Bundle, options: EngineOptions) -> "PreparedKey":
        """Return a bundle's key on this device."""
        hashes = {name: info.sha256 for name, info in model_files(bundle).items()}
        return cls(ONNXRUNTIME_VERSION, processor_id(), options.kleidiai, hashes)


@dataclass(frozen=True)
class PreparedInfo:
    """The file `prepared.json`: what the model was prepared for, and its files."""

    key: PreparedKey
    files: dict[str, FileInfo]

    def __post_init__(self) -> None:
        if PREPARED_GRAPH_FILE not in self.files:
            raise ValueError(f"files: must list {PREPARED_GRAPH_FILE}, does not")
        for name in self.files:
            check_file_name(name)


@dataclass(frozen=True)
class Prepared:
    """The prepared model of a bundle, if there is one.

    Attributes:
        directory: Where a prepared model lies or would lie.
        status: `ready` to use, `stale` if it was made for something else or by somebody else, or
            `none`.
        detail: A sentence on why a stale one is not used.
        bytes: On disk.
    """

    directory: Path
    status: Literal["ready", "stale", "none"]
    detail: str | None = None
    bytes: int = 0

    @property
    def graph(self) -> Path | None:
        """The graph to open instead of the bundle's."""
        return self.directory / PREPARED_GRAPH_FILE if self.status == "ready" else None


def prepared_directory(bundle: Bundle) -> Path:
    """Return where a bundle's prepared model lies by default: next to the bundle."""
    directory = bundle.directory.resolve()
    return directory.with_name(f"{directory.name}.prepared")


def find_prepared(
    bundle: Bundle, options: EngineOptions, directory: Path | None = None, *, verify: bool = False
) -> Prepared:
    """Look for a prepared model of a bundle, and check its files if it is valid here.

    Only one that this user or root prepared on this device is used. The bundle's hashes say nothing
    about its files: one that came with a bundle might compute something else.

    Args:
        bundle: The bundle it was made from.
        options: How the model is going to be run.
        directory: Where it lies; None for next to the bundle.
        verify: Also hash its files.

    Raises:
        BundleError: It is valid here, but a file is missing or has another size or, where hashed,
            was altered.
    """
    directory = directory or prepared_directory(bundle)
    info = read_prepared(directory)
    if info is None:
        return Prepared(directory, "none")
    key = PreparedKey.of(bundle, options)
    size = sum(file.bytes for file in info.files.values())
    if info.key != key:
        return Prepared(directory, "stale", _difference(info.key, key), size)
    files = checked_files(bundle, directory, info)
    ours = files.are_noted()
    if verify:
        files.check_hashes()
    if not ours:
        return Prepared(directory, "stale", _NOT_OURS, size)
    return Prepared(directory, "ready", None, size)


def read_prepared(directory: Path) -> PreparedInfo | None:
    """Read a prepared model's record; None if there is none that this version can read."""
    path = directory / PREPARED_FILE
    try:
        document = parse_json(read_small_text(path, MAX_MANIFEST_BYTES))
        return from_json(PreparedInfo, document, str(path))
    except (OSError, ValueError, FieldError):
        return None


def _contents(directory: Path) -> set[str] | None:
    info = read_prepared(directory)
    return None if info is None else {PREPARED_FILE, VERIFIED_FILE, *info.files}


PREPARED = Kind("prepared model", _contents)


def checked_files(bundle: Bundle, directory: Path, info: PreparedInfo) -> CheckedFiles:
    """Return the files of a bundle's prepared model, to be checked against their hashes."""
    words = ["foggen", "prepare", str(bundle.directory)]
    if directory != prepared_directory(bundle):
        words += ["--output", str(directory)]
    digest = sha256_file(directory / PREPARED_FILE)
    return CheckedFiles(directory, info.files, "prepared", digest, f"run {shlex.join(words)}")


def model_files(bundle: Bundle) -> dict[str, FileInfo]:
    """Return the bundle's graph and its weights, which lie next to it under its name."""
    name = bundle.manifest.graph.file
    files = bundle.manifest.files
    return {file: info for file, info in files.items() if file in (name, f"{name}.data")}


def _difference(made_for: PreparedKey, wanted: PreparedKey) -> str:
    if made_for.onnxruntime != wanted.onnxruntime:
        return f"made for onnxruntime {made_for.onnxruntime}, this is {wanted.onnxruntime}"
    if made_for.processor != wanted.processor:
        return f"made for processor {made_for.processor}, this is {wanted.processor}"
    if made_for.model != wanted.model:
        return "made for another bundle"
    return f"made for kleidiai {made_for.kleidiai}, this is {wanted.kleidiai}"
