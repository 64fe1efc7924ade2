"""Writing a prepared model, and removing one."""

import shutil
from pathlib import Path

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import file_info
from foggen_runtime.errors import ConfigError
from foggen_runtime.files import check_utf8, make_directory, write_text_atomically
from foggen_runtime.jsonio import dumps
from foggen_runtime.model.engine import EngineOptions, save_prepacked
from foggen_runtime.model.prepared import (
    PREPARED,
    PREPARED_FILE,
    PREPARED_GRAPH_FILE,
    Prepared,
    PreparedInfo,
    PreparedKey,
    checked_files,
    find_prepared,
    model_files,
    prepared_directory,
    read_prepared,
)
from foggen_runtime.placing import Place, followed

# Times the weights' size: the file holds them raw and packed, and its own copy of a tied output
# head.
_NEEDED_SHARE = 2.4


def needed_bytes(bundle: Bundle) -> int:
    """Return roughly how much space a prepared model needs; rather too much than too little."""
    return int(_NEEDED_SHARE * sum(info.bytes for info in model_files(bundle).values()))


def prepare(bundle: Bundle, options: EngineOptions, directory: Path | None = None) -> Prepared:
    """Write the prepared model of a bundle, in place of an older one.

    Raises:
        ConfigError: `directory` holds something else, cannot be written, or has no space.
        BundleError: onnxruntime refuses the graph.
    """
    place = Place.directory(directory or prepared_directory(bundle), PREPARED, force=True)
    directory = place.path
    check_utf8("output", directory)
    check_space(bundle, directory)
    try:
        partial = make_directory(directory.parent, f".{directory.name}.")
    except OSError as error:
        raise ConfigError(
            f"output: cannot write {directory}: {error}; choose another directory with --output"
        ) from error
    try:
        info = _write(bundle, options, partial)
        place.put(partial)
        checked_files(bundle, directory, info).note()
    except OSError as error:
        raise ConfigError(f"output: cannot write {directory}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return find_prepared(bundle, options, directory)


def check_space(bundle: Bundle, directory: Path) -> None:
    """Check that there is space for a prepared model.

    Raises:
        ConfigError: There is not enough, or the directory it goes into does not exist.
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
    """Remove a bundle's prepared model, whatever it was made for; return how many bytes it had.

    Raises:
        ConfigError: What lies there is not a prepared model, or cannot be removed.
    """
    directory = followed(directory or prepared_directory(bundle))
    if not directory.exists():
        return 0
    info = read_prepared(directory)
    if info is None:
        raise ConfigError(f"output: {directory} must be a prepared model, is something else")
    PREPARED.check_alone(directory)
    try:
        shutil.rmtree(directory)
    except OSError as error:
        raise ConfigError(f"output: cannot remove {directory}: {error}") from error
    return sum(file.bytes for file in info.files.values())


def _write(bundle: Bundle, options: EngineOptions, directory: Path) -> PreparedInfo:
    graph = directory / PREPARED_GRAPH_FILE
    save_prepacked(bundle.path(bundle.manifest.graph.file), graph, options)
    files = {path.name: file_info(path) for path in sorted(directory.iterdir())}
    info = PreparedInfo(PreparedKey.of(bundle, options), files)
    write_text_atomically(directory / PREPARED_FILE, dumps(info, indent=2) + "\n")
    return info
