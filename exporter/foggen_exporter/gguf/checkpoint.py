"""A GGUF file as a checkpoint."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from foggen_exporter.architectures.registry import ARCHITECTURES
from foggen_exporter.gguf.config import FAMILIES, Document, read_model
from foggen_exporter.gguf.files import GgufFiles
from foggen_exporter.gguf.header import GgufHeader
from foggen_exporter.gguf.tokenizer import write_tokenizer_files
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.errors import CheckpointError


@contextmanager
def opened_gguf(path: Path) -> Iterator[Checkpoint]:
    """Open a GGUF file; its configuration and tokenizer lie in a temporary directory meanwhile.

    Raises:
        CheckpointError: The file is broken or one of several, or its model or tokenizer is of a
            kind that is not supported.
    """
    header = GgufHeader.read(path)
    document, files = read_model(header)
    _check_supported(header)
    with TemporaryDirectory(prefix="foggen-gguf-") as folder:
        directory = Path(folder)
        (directory / "config.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
        write_tokenizer_files(header, directory)
        checkpoint = _checked(path, directory, document, files)
        yield replace(checkpoint, warnings=(*checkpoint.warnings, *_losses(path, files)))


def _check_supported(header: GgufHeader) -> None:
    supported = [name for name, family in FAMILIES.items() if family.architecture in ARCHITECTURES]
    name = header.text("general.architecture")
    if name not in supported:
        rule = f"must be one of {', '.join(supported)}"
        raise header.refusal("general.architecture", rule, name)


def _checked(path: Path, directory: Path, document: Document, files: GgufFiles) -> Checkpoint:
    try:
        return Checkpoint.of(directory, document, files)
    except CheckpointError as error:
        # The user knows of no directory, and of one file.
        message = str(error).removeprefix(f"{directory}: ").removeprefix(f"{path}: ")
        raise CheckpointError(f"{path}: read as a checkpoint: {message}") from error


def _losses(path: Path, files: GgufFiles) -> list[str]:
    if not (kinds := files.rounded_kinds):
        return []
    return [
        f"{path.name}: its weights were rounded to {' and '.join(kinds)} by whoever made the file, "
        "and a recipe that quantizes rounds them again; prefer the original checkpoint, or a file "
        "in F16 or BF16"
    ]
