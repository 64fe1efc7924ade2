"""Exporting without the command line."""

from pathlib import Path

from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint


def export_bundle(checkpoint: Path, directory: Path, quant: str) -> Path:
    """Export a checkpoint with default settings."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = ExportSettings(find_recipe(quant), load_template("mcq"))
    export = Export.of(Checkpoint.open(checkpoint), Origin(checkpoint.name), settings, directory)
    for _ in export.steps():
        pass
    return directory
