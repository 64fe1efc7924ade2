"""Bundles of mixed bits: what is said of them is what their graphs hold."""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from foggen_exporter.calibration.budget import WeightSizes
from foggen_exporter.calibration.calibration import CalibrationSet
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.graphs.builder import ALIGNMENT
from foggen_exporter.recipes.recipe import EMBEDDING_GROUP, Recipe, find_recipe
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.cli import foggen
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.local_model import LocalModel, OpenOptions
from tests.conftest import TINY, BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS

OPTIONS = OpenOptions(EngineOptions(threads=1, spinning=False))
MIXED = find_recipe("int4-mixed")
CALIBRATION = CalibrationSet(tuple(QUESTIONS[:2]))
BUDGET = 3_250_000  # bytes: room for some matrices of 8 bits, not for all
HARMED = {"layers.1.o_proj", "layers.2.qkv_proj"}
_MATRIX = re.compile(r"layers\.(\d+)\.(.+)")
_EIGHT = {
    "card": re.compile(r"(\w+_proj) of layers ([\d, -]+) 8 bits"),
    "inspect": re.compile(r"^  (\w+_proj) +8 bits, blocks of 128, in layers ([\d, -]+)$", re.M),
}


def export(directory: Path, settings: ExportSettings) -> Path:
    directory.mkdir()
    source = Checkpoint.open(TINY / "checkpoint")
    for _ in Export.of(source, Origin("tiny"), settings, directory).steps():
        pass
    return directory


@pytest.fixture(scope="module")
def choices_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = ExportSettings(
        MIXED, load_template("mcq"), calibration=CALIBRATION, budget=BUDGET, head="choices"
    )
    return export(tmp_path_factory.mktemp("choices") / "bundle", settings)


def bits_by_matrix(bundle: Path) -> dict[str, int]:
    """Return the bits of every product in blocks, as its node has them."""
    graph = onnx.load_model(bundle / "model.onnx", load_external_data=False).graph
    return {
        node.output[0]: attribute.i
        for node in graph.node
        if node.op_type == "MatMulNBits"
        for attribute in node.attribute
        if attribute.name == "bits"
    }


def named(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, int]]:
    """Yield the matrices of 8 bits that a text names, with their layers."""
    for matrix, layers in pattern.findall(text):
        for part in layers.split(", "):
            first, _, last = part.partition("-")
            yield from ((matrix, index) for index in range(int(first), int(last or first) + 1))


@pytest.mark.parametrize("head", ["full", "choices"])
def test_card_and_inspection_name_the_layers_of_8_bits(
    head: str, tiny_bundle: BundleOf, choices_bundle: Path
) -> None:
    bundle = choices_bundle if head == "choices" else tiny_bundle("int4-mixed")
    found = [(_MATRIX.fullmatch(name), bits) for name, bits in bits_by_matrix(bundle).items()]
    eight = sorted((match[2], int(match[1])) for match, bits in found if match and bits == 8)
    assert 0 < len(eight) < sum(match is not None for match, _ in found)
    shown = CliRunner().invoke(foggen, ["inspect", str(bundle)]).stdout
    card = (bundle / "README.md").read_text(encoding="utf-8")
    for text, kind in ((card, "card"), (shown, "inspect")):
        assert sorted(named(text, _EIGHT[kind])) == eight


def test_a_head_of_choices_within_the_budget(choices_bundle: Path) -> None:
    manifest = Bundle.open(choices_bundle).manifest
    head, groups = manifest.graph.head, manifest.quantization.groups
    assert head is not None
    assert (choices_bundle / "model.onnx.data").stat().st_size <= BUDGET
    bits = bits_by_matrix(choices_bundle)
    expected = {name: groups.get(name, groups["layers"]).bits for name in bits}
    assert bits == {**expected, "logits": groups[EMBEDDING_GROUP].bits}
    graph = onnx.load_model(choices_bundle / "model.onnx", load_external_data=False).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    assert shapes["logits.weight"][0] == len(head.token_ids)


def test_its_logits_are_those_rows_of_the_full_heads(choices_bundle: Path, tmp_path: Path) -> None:
    """Of a bundle whose matrices have the same bits, the full head's rows."""
    groups = Bundle.open(choices_bundle).manifest.quantization.groups
    finer = {name for name, form in groups.items() if form.bits == 8}
    fixed = replace(MIXED.with_finer(frozenset(finer)), finer=None)
    settings = ExportSettings(fixed, load_template("mcq"), calibration=CALIBRATION)
    bundles = (export(tmp_path / "full", settings), choices_bundle)
    full, choices = (LocalModel(Bundle.open(bundle), OPTIONS) for bundle in bundles)
    kept = choices.bundle.manifest.graph.head
    assert kept is not None
    for question in QUESTIONS[10:13]:
        logits, decisions = [], []
        for model in (full, choices):
            prompt = model.tokenizer.prompt_ids(model.bundle.manifest.prompt, question)
            decisions.append(model.decoder(Decoding()).decide(prompt[model.prefix_length :]).tokens)
            model.engine.cache.truncate(model.prefix_length)
            logits.append(model.engine.forward(prompt[model.prefix_length :]))
        expected = logits[0][:, list(kept.token_ids)]
        assert np.abs(logits[1] - expected).max() <= 1e-6 * np.abs(expected).max()
        assert decisions[0] == decisions[1]


@dataclass(frozen=True)
class KnownDamage:
    """In the place of `DamageSearch`: four bits harm some groups and hardly the others."""

    source: Checkpoint
    recipe: Recipe
    probes: object

    def steps(self, inputs: object) -> Generator[str, None, dict[str, float]]:
        yield "damage"
        config = self.source.config
        layers = range(config.num_hidden_layers)
        names = [name for index in layers for name in config.matrix_shapes(index)]
        return {name: 1.0 if name in HARMED else 1e-3 for name in (EMBEDDING_GROUP, *names)}


def test_what_is_harmed_most_gets_8_bits_within_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foggen_exporter.export.DamageSearch", KnownDamage)
    source = Checkpoint.open(TINY / "checkpoint")
    sizes = WeightSizes.of(source, MIXED, source.config.max_position_embeddings, 0)
    pages = sizes.smallest + sum(sizes.finer[name] - sizes.usual[name] for name in HARMED)
    recipe = replace(MIXED, error_feedback=False)
    settings = ExportSettings(
        recipe, load_template("mcq"), calibration=CALIBRATION, budget=pages * ALIGNMENT
    )
    bits = bits_by_matrix(export(tmp_path / "bundle", settings))
    assert {name for name, count in bits.items() if count == 8} == HARMED
