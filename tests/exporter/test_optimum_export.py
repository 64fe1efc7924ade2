"""Wrapping optimum's graphs into bundles; a stand-in writes the graph, as our exporter does."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from foggen_exporter.cli import export_command
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.optimum_export import OptimumCheckpoint, OptimumExport
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime import CheckpointError, ConfigError, Decoding, Foggen, OpenOptions
from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.model.engine import EngineOptions
from tests.conftest import TINY, BundleOf
from tests.support.checkpoints import edit_json
from tests.support.random_bundle import POSITIONS, export_graph

CHECKPOINT = TINY / "checkpoint"
SETTINGS = ExportSettings(find_recipe("fp32"), load_template("mcq"), context_length=POSITIONS)
EXPORTER = "optimum.exporters.onnx"


def install(monkeypatch: pytest.MonkeyPatch, main_export: Callable[..., None]) -> None:
    """Let a function stand in for optimum's."""
    module = ModuleType(EXPORTER)
    module.main_export = main_export  # type: ignore[attr-defined]
    for name in ("optimum", "optimum.exporters"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, EXPORTER, module)
    monkeypatch.setattr("foggen_exporter.optimum_export.optimum_version", lambda: "0")


def write_own_graph(checkpoint: str, output: Path, **_: object) -> None:
    """Write our graph with logits for every position."""
    export_graph(Checkpoint.open(Path(checkpoint)), output, find_recipe("fp32"), tail=POSITIONS)


def export(
    directory: Path,
    settings: ExportSettings = SETTINGS,
    adapter: Path | None = None,
) -> Manifest:
    directory.mkdir()
    origin = Origin("tiny", adapter=adapter)
    made = OptimumExport(OptimumCheckpoint.open(CHECKPOINT), origin, settings, directory)
    assert made.cost() is None
    assert len(list(made.steps())) == made.step_count
    return Manifest.load(directory)


@pytest.mark.parametrize("snapshot", [True, False])
def test_a_bundle_decides_as_the_graph_it_wraps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: BundleOf, snapshot: bool
) -> None:
    install(monkeypatch, write_own_graph)
    bundle = tmp_path / "bundle"
    manifest = export(bundle, replace(SETTINGS, prefix_snapshot=snapshot))
    assert not manifest.graph.shared_cache
    assert manifest.graph.logits_tail == manifest.model.context_length == POSITIONS
    assert list(tmp_path.iterdir()) == [bundle]
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:10]
    questions = [json.loads(line)["question"] for line in lines]
    outcomes = []
    for directory in (bundle, tiny_bundle("fp32")):
        options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
        with Foggen.open(directory, options=options) as foggen:
            results = [
                foggen.ask(text, tau=0.0, decoding=Decoding(mode="greedy")) for text in questions
            ]
        outcomes.append([(r.confidence, r.answer, r.usage.prompt_tokens) for r in results])
        source = "snapshot" if snapshot or directory != bundle else "none"
        assert {r.prefix_source for r in results} == {source}
    assert outcomes[0] == outcomes[1]


def test_the_rest_of_the_bundle_is_as_our_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_bundle: BundleOf
) -> None:
    install(monkeypatch, write_own_graph)
    manifest, own = export(tmp_path / "bundle"), Manifest.load(tiny_bundle("fp32"))
    assert (manifest.prompt, manifest.template) == (own.prompt, own.template)
    assert set(manifest.files) == set(own.files)
    assert replace(manifest.model, name="", context_length=1) == replace(
        own.model, name="", context_length=1
    )
    assert manifest.provenance["weights_sha256"] == own.provenance["weights_sha256"]
    snapshot, expected = (
        np.load(bundle / "prefix_snapshot.npy")
        for bundle in (tmp_path / "bundle", tiny_bundle("fp32"))
    )
    np.testing.assert_allclose(snapshot, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            replace(SETTINGS, recipe=find_recipe("int8")),
            "quant: must be one of fp32, int8-weight, int4 with graph optimum, is int8$",
        ),
        (replace(SETTINGS, loop=True), "loop: must be left out with graph optimum"),
        (replace(SETTINGS, genai=True), "genai: must be left out with graph optimum"),
        (replace(SETTINGS, head="choices"), "head: must be full .* is choices"),
    ],
)
def test_what_only_our_own_graphs_can_do_is_refused(
    tmp_path: Path, settings: ExportSettings, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        export(tmp_path / "bundle", settings)


def test_adapters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"adapter: must be merged .* is lora"):
        export(tmp_path / "bundle", adapter=Path("lora"))


def test_the_command_goes_either_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, write_own_graph)
    arguments = [str(CHECKPOINT), "--quant", "int4", "--context-length", str(POSITIONS)]
    shared = {}
    for graph in ("foggen", "optimum"):
        target = tmp_path / graph
        done = CliRunner().invoke(export_command, [*arguments, "--graph", graph, "-o", str(target)])
        assert done.exit_code == 0, done.stderr
        shared[graph] = Manifest.load(target).graph.shared_cache
    assert shared == {"foggen": True, "optimum": False}


@pytest.mark.parametrize(
    ("option", "message"), [("--loop", "loop: must be left out"), ("--quant=int8", "is int8")]
)
def test_the_command_refuses_before_it_looks_for_the_checkpoint(
    tmp_path: Path, option: str, message: str
) -> None:
    arguments = ["org/nowhere", "--graph", "optimum", "--quant", "fp32", option]
    done = CliRunner().invoke(export_command, [*arguments, "-o", str(tmp_path / "bundle")])
    assert done.exit_code == 1
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_without_optimum_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, EXPORTER, None)
    with pytest.raises(ConfigError, match=r"graph: optimum needs .* 'foggen\[optimum\]'"):
        export(tmp_path / "bundle")


def test_what_optimum_refuses_is_a_checkpoint_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("custom or unsupported architecture")

    install(monkeypatch, refuse)
    with pytest.raises(CheckpointError, match="optimum cannot export it: custom"):
        export(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("eos_token_id", None, "eos_token_id: must say what ends a text, is not set"),
        ("architectures", [], r"architectures: must name one, is \[\]"),
        ("model_type", "unheard-of", "no usable configuration"),
    ],
)
def test_checkpoints_that_say_too_little_are_refused(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    checkpoint = Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))
    (checkpoint / "generation_config.json").unlink()
    edit_json(checkpoint / "config.json", lambda config: config.update({field: value}))
    with pytest.raises(CheckpointError, match=message):
        OptimumCheckpoint.open(checkpoint)


def test_the_ends_are_those_that_generating_uses(tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))
    path = checkpoint / "generation_config.json"
    edit_json(path, lambda config: config.update(eos_token_id=[7, 8]))
    assert OptimumCheckpoint.open(checkpoint).eos_token_ids == (7, 8)
    path.unlink()
    assert OptimumCheckpoint.open(checkpoint).eos_token_ids == (1128,)
