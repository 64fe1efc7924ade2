"""A prepared model: a bundle's weights packed for one processor, written once, mapped later.

onnxruntime packs weights into the form its kernels read whenever it opens a model. Written to a
file, the packed weights are mapped instead of held: memory the system can take back and processes
can share. They hold for one onnxruntime, one instruction set and one bundle, which the key says;
with any other key the model is left alone and the bundle opens as it is.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foggen_runtime.bundle import Bundle
from foggen_runtime.checked_files import CheckedFiles
from foggen_runtime.engine import ONNXRUNTIME_VERSION, EngineOptions, save_prepacked
from foggen_runtime.errors import ConfigError
from foggen_runtime.files import sha256_file, write_text_atomically
from foggen_runtime.jsonio import FieldError, dumps, from_json
from foggen_runtime.manifest import FileInfo, file_info
from foggen_runtime.processor import processor_id

PREPARED_FILE = "prepared.json"
_GRAPH_FILE = "model.onnx"

# Of the weights' size: the file holds them raw and packed, and a tied output head of its own.
_NEEDED_SHARE = 2.4


@dataclass(frozen=True)
class PreparedKey:
    """What packed weights depend on.

    Attributes:
        onnxruntime: Its version.
        processor: Architecture and instructions.
        kleidiai: Whether ARM's KleidiAI kernels may be used.
        model: The hashes of the bundle's graph and weights, by name.
    """

    onnxruntime: str
    processor: str
    kleidiai: bool
    model: dict[str, str]

    @classmethod
    def of(cls, bundle: Bundle, options: EngineOptions) -> "PreparedKey":
        """Return the key of a bundle on this device."""
        hashes = {name: info.sha256 for name, info in _model_files(bundle).items()}
        return cls(ONNXRUNTIME_VERSION, processor_id(), options.kleidiai, hashes)


@dataclass(frozen=True)
class PreparedInfo:
    """The file `prepared.json`: for what the model was prepared, and its files."""

    key: PreparedKey
    files: dict[str, FileInfo]


@dataclass(frozen=True)
class Prepared:
    """What there is beside a bundle.

    Attributes:
        directory: Where a prepared model lies or would lie.
        status: `ready` to be used, `stale` if it was made for something else, or `none`.
        detail: What a stale one was made for, for people.
        bytes: On disk.
    """

    directory: Path
    status: Literal["ready", "stale", "none"]
    detail: str | None = None
    bytes: int = 0

    @property
    def graph(self) -> Path | None:
        """The graph to open instead of the bundle's."""
        return self.directory / _GRAPH_FILE if self.status == "ready" else None


def prepared_directory(bundle: Bundle) -> Path:
    """Return where a bundle's prepared model lies unless said otherwise: beside the bundle."""
    directory = bundle.directory.resolve()
    return directory.with_name(f"{directory.name}.prepared")


def needed_bytes(bundle: Bundle) -> int:
    """Return about how much space a prepared model needs, on the safe side."""
    return int(_NEEDED_SHARE * sum(info.bytes for info in _model_files(bundle).values()))


def find_prepared(
    bundle: Bundle, options: EngineOptions, directory: Path | None = None, *, verify: bool = False
) -> Prepared:
    """Look for a prepared model of a bundle, and check its files if it fits.

    Args:
        bundle: What it is of.
        options: How it is going to be used.
        directory: Where it lies; None for beside the bundle.
        verify: Hash its files, whether or not they were verified before.

    Raises:
        BundleError: It fits, but a file is missing or altered.
    """
    directory = directory or prepared_directory(bundle)
    info = _read(directory)
    if info is None:
        return Prepared(directory, "none")
    key = PreparedKey.of(bundle, options)
    size = sum(file.bytes for file in info.files.values())
    if info.key != key:
        return Prepared(directory, "stale", _difference(info.key, key), size)
    _checked(directory, info).check(verify=verify)
    return Prepared(directory, "ready", None, size)


def prepare(bundle: Bundle, options: EngineOptions, directory: Path | None = None) -> Prepared:
    """Write the prepared model of a bundle, in place of an older one.

    Raises:
        ConfigError: `directory` holds something else, cannot be written, or has no space.
        BundleError: onnxruntime refuses the graph.
    """
    directory = directory or prepared_directory(bundle)
    if directory.exists() and _read(directory) is None:
        raise ConfigError(
            f"output: {directory} must be a prepared model or not there, it is something else"
        )
    check_space(bundle, directory)
    try:
        partial = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    except OSError as error:
        raise ConfigError(
            f"output: cannot write {directory}: {error}; choose another place with --output"
        ) from error
    try:
        info = _write(bundle, options, partial)
        partial.chmod(0o755)
        if directory.exists():
            shutil.rmtree(directory)
        partial.rename(directory)
        _checked(directory, info).remember()
    except OSError as error:
        raise ConfigError(f"output: cannot write {directory}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return find_prepared(bundle, options, directory)


def check_space(bundle: Bundle, directory: Path) -> None:
    """Check that there is space for a prepared model.

    Raises:
        ConfigError: There is not, or the directory it goes into does not exist.
    """
    try:
        free = shutil.disk_usage(directory.parent).free
    except OSError as error:
        raise ConfigError(f"output: cannot write into {directory.parent}: {error}") from error
    needed = needed_bytes(bundle)
    if free < needed:
        raise ConfigError(
            f"output: {directory.parent} must have {needed / 1e6:.0f} MB free, "
            f"has {free / 1e6:.0f} MB"
        )


def remove_prepared(bundle: Bundle, directory: Path | None = None) -> int:
    """Remove a bundle's prepared model, whatever it was made for; return the bytes it had.

    Raises:
        ConfigError: What lies there is not one, or cannot be removed.
    """
    directory = directory or prepared_directory(bundle)
    if not directory.exists():
        return 0
    info = _read(directory)
    if info is None:
        raise ConfigError(f"output: {directory} must be a prepared model, it is something else")
    try:
        shutil.rmtree(directory)
    except OSError as error:
        raise ConfigError(f"output: cannot remove {directory}: {error}") from error
    return sum(file.bytes for file in info.files.values())


def _write(bundle: Bundle, options: EngineOptions, directory: Path) -> PreparedInfo:
    graph = directory / _GRAPH_FILE
    save_prepacked(bundle.path(bundle.manifest.graph.file), graph, options)
    files = {path.name: file_info(path) for path in sorted(directory.iterdir())}
    info = PreparedInfo(PreparedKey.of(bundle, options), files)
    write_text_atomically(directory / PREPARED_FILE, dumps(info, indent=2) + "\n")
    return info


def _read(directory: Path) -> PreparedInfo | None:
    """Read what was prepared; None if there is nothing that this version can read."""
    path = directory / PREPARED_FILE
    try:
        return from_json(PreparedInfo, json.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError, FieldError):
        return None


def _checked(directory: Path, info: PreparedInfo) -> CheckedFiles:
    remedy = "run foggen prepare again"
    return CheckedFiles(directory, info.files, sha256_file(directory / PREPARED_FILE), remedy)


def _model_files(bundle: Bundle) -> dict[str, FileInfo]:
    """Return the bundle's graph and its weights, which lie beside it under its name."""
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
