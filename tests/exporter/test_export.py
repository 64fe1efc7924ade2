"""Bundles by recipe: what is folded, rounded and recorded."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foggen_exporter.bundle.directory import bundle_directory
from foggen_exporter.calibration.calibration import CalibrationSet
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.recipes.recipe import RECIPES, find_recipe
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime import EngineOptions, Foggen, OpenOptions
from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.bundle import BUNDLE, Bundle
from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.model.local_model import LocalModel
from foggen_runtime.placing import Place
from tests.conftest import TINY, BundleOf
from tests.support.export import export_bundle
from tests.support.outliers import Outliers, add_outliers
from tests.support.snapshots import prefix_snapshot

OTHER_QUESTIONS = CalibrationSet(("Which is larger?\nA) 3\nB) 5", "Pick the tool.\nA) axe\nB) fig"))


def export(directory: Path, settings: ExportSettings, checkpoint: Path) -> tuple[Export, list[str]]:
    directory.mkdir()
    job = Export.of(Checkpoint.open(checkpoint), Origin("tiny"), settings, directory)
    return job, list(job.steps())


@pytest.fixture(scope="module")
def injected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("injected") / "checkpoint"
    shutil.copytree(TINY / "checkpoint", directory)
    add_outliers(directory, Outliers())
    return directory


@pytest.mark.parametrize("quant", RECIPES)
def test_every_step_is_counted(tmp_path: Path, quant: str) -> None:
    settings = ExportSettings(find_recipe(quant), load_template("mcq"), calibration=OTHER_QUESTIONS)
    job, steps = export(tmp_path / "bundle", settings, TINY / "checkpoint")
    assert job.step_count == len(steps) == len(set(steps))


def test_the_manifest_says_what_a_recipe_went_by(tiny_bundle: BundleOf) -> None:
    built_in = CalibrationSet.built_in().sha256
    expected = {
        "int8": ("smoothquant", built_in),
        "int8-weight": (None, None),
        "int4": (None, None),
        "int4-gptq": ("smoothquant", built_in),
        "int4-mixed": ("smoothquant", built_in),
    }
    for quant, (folding, calibration) in expected.items():
        quantization = Manifest.load(tiny_bundle(quant)).quantization
        assert (quantization.folding, quantization.calibration_sha256) == (folding, calibration)


@pytest.mark.parametrize("quant", ["int8", "int4-gptq"])
def test_other_calibration_questions_make_another_bundle(
    tmp_path: Path, tiny_bundle: BundleOf, quant: str
) -> None:
    settings = ExportSettings(find_recipe(quant), load_template("mcq"), calibration=OTHER_QUESTIONS)
    export(tmp_path / "bundle", settings, TINY / "checkpoint")
    quantization = Manifest.load(tmp_path / "bundle").quantization
    assert quantization.calibration_sha256 == OTHER_QUESTIONS.sha256
    one, other = (path / "model.onnx.data" for path in (tmp_path / "bundle", tiny_bundle(quant)))
    assert one.stat().st_size == other.stat().st_size
    assert one.read_bytes() != other.read_bytes()


def test_the_shipped_snapshot_is_of_the_folded_weights(tmp_path: Path, injected: Path) -> None:
    """The quantized graph, fed the prefix itself, must come to nearly the same cache."""
    settings = ExportSettings(find_recipe("int8"), load_template("mcq"))
    bundle = tmp_path / "bundle"
    export(bundle, settings, injected)
    shipped: Float32 = np.load(bundle / "prefix_snapshot.npy")
    options = OpenOptions(EngineOptions(threads=1, spinning=False), recompute_prefix=True)
    computed = LocalModel(Bundle.open(bundle), options).engine.cache.snapshot()
    unfolded = prefix_snapshot(Checkpoint.open(injected), Manifest.load(bundle).prompt.prefix_ids)
    for layer in range(len(shipped)):
        largest = np.abs(shipped[layer, 1]).max()
        assert np.abs(computed[layer, 1] - shipped[layer, 1]).max() < 0.1 * largest
        assert np.abs(unfolded[layer, 1] - shipped[layer, 1]).max() > largest


def test_a_bundle_of_folded_weights_has_a_key_of_its_own(tiny_bundle: BundleOf) -> None:
    by_folding: dict[bool, set[str]] = {True: set(), False: set()}
    for quant, recipe in RECIPES.items():
        snapshot = Manifest.load(tiny_bundle(quant)).prefix_snapshot
        assert snapshot is not None
        by_folding[recipe.smoothing].add(snapshot.key)
    assert [len(keys) for keys in by_folding.values()] == [1, 1]
    assert by_folding[True] != by_folding[False]


@pytest.mark.parametrize(("quant", "near", "far"), [("int8", 0.05, 0.2), ("int4-gptq", 0.1, 0.2)])
def test_smoothing_is_what_keeps_a_recipe_near_fp32_under_outliers(
    tmp_path: Path, injected: Path, quant: str, near: float, far: float
) -> None:
    question = "Name the capital of Trovia.\nA) Lemton\nB) Seford\nC) Titon"
    smoothing = find_recipe(quant)
    recipes = {
        "fp32": find_recipe("fp32"),
        "smoothed": smoothing,
        "as it is": replace(smoothing, smoothing=False),
    }
    logits = {}
    for name, recipe in recipes.items():
        settings = ExportSettings(recipe, load_template("mcq"), calibration=OTHER_QUESTIONS)
        export(tmp_path / name, settings, injected)
        options = OpenOptions(EngineOptions(threads=1, spinning=False))
        with Foggen.open(tmp_path / name, options=options) as foggen:
            model = foggen.model
            logits[name] = model.engine.forward(foggen.prompt_ids(question)[model.prefix_length :])
    size = np.linalg.norm(logits["fp32"])
    errors = {name: np.linalg.norm(rows - logits["fp32"]) / size for name, rows in logits.items()}
    print(errors)
    assert errors["smoothed"] < near < far < errors["as it is"]


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_who_may_read_a_bundle_is_up_to_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with bundle_directory(
            Place.directory(tmp_path / "bundle", BUNDLE, force=False)
        ) as directory:
            export_bundle(TINY / "checkpoint", directory, "int4")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "bundle").iterdir()}
    assert modes == dict.fromkeys(modes, 0o666 & ~mask)
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o777 & ~mask
