"""What every bundle has, whichever way its graph was made."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from foggen_exporter.bundle.card import bundle_card
from foggen_runtime.bundle.manifest import FileInfo, Manifest, PrefixSnapshotInfo, file_info
from foggen_runtime.model.snapshot import SNAPSHOT_FILE, expected_key

GRAPH_FILE = "model.onnx"
CARD_FILE = "README.md"
CONFIGURATION_FILES = ("config.json", "generation_config.json")
MIN_ONNXRUNTIME = "1.27"


class BundleExport(Protocol):
    """Writes one bundle."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences to show to the user first."""

    @property
    def step_count(self) -> int:
        """How many names `steps` yields."""

    def cost(self) -> str | None:
        """Return a sentence on how long it will take, if that is worth saying."""

    def steps(self) -> Iterator[str]:
        """Write the bundle, yielding each step's name before it starts."""


def copy_configuration(checkpoint: Path, directory: Path) -> None:
    """Keep the checkpoint's own description, which transformers.js and hubs read."""
    for name in CONFIGURATION_FILES:
        path = checkpoint / name
        if path.exists():
            (directory / name).write_bytes(path.read_bytes())


def file_infos(directory: Path) -> dict[str, FileInfo]:
    """Measure and hash the files of a bundle so far."""
    return {path.name: file_info(path) for path in sorted(directory.iterdir())}


def save_manifest(manifest: Manifest, directory: Path) -> None:
    """Write the card and, when every other file is there, the manifest.

    Args:
        manifest: Does not describe the prefix snapshot yet; its `files` name it if there is one.
        directory: The bundle.
    """
    if SNAPSHOT_FILE in manifest.files:
        snapshot = PrefixSnapshotInfo(SNAPSHOT_FILE, "float32", expected_key(manifest))
        manifest = replace(manifest, prefix_snapshot=snapshot)
    card = directory / CARD_FILE
    card.write_text(bundle_card(manifest), encoding="utf-8")
    files = {**manifest.files, CARD_FILE: file_info(card)}
    replace(manifest, files=files).save(directory)
