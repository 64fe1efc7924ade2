"""Exporting a GGUF file, as its user does it."""

import json
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from gguf import GGMLQuantizationType

from foggen_exporter import exporting
from foggen_exporter.architectures.registry import ARCHITECTURES
from foggen_exporter.cli import export_command
from foggen_exporter.gguf.checkpoint import opened_gguf
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime import Foggen
from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.errors import CheckpointError
from tests.conftest import TINY, BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.gguf_models import FAMILIES, tiny_foggen, write_family

GATE = "model.layers.0.mlp.gate_proj.weight"


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(export_command, [str(argument) for argument in arguments])


def refusal(*arguments: str | Path) -> str:
    """Return the error of a command that must fail and leave nothing behind."""
    before = sorted(Path.cwd().iterdir())
    result = run(*arguments)
    assert result.exit_code == 1
    assert sorted(Path.cwd().iterdir()) == before
    assert len(re.findall("^Error: ", result.stderr, re.MULTILINE)) == 1
    return result.stderr


@pytest.mark.parametrize(("kind", "quant"), [("F32", "fp32"), ("BF16", "int4")])
def test_exact_floats_give_the_bundle_of_the_checkpoint(
    tmp_path: Path, tiny_bundle: BundleOf, kind: str, quant: str
) -> None:
    tiny_foggen(GGMLQuantizationType[kind]).write(tmp_path / "tiny.gguf")
    result = run("tiny.gguf", "--quant", quant)
    assert result.exit_code == 0
    assert "rounded" not in result.stderr
    ours, theirs = tmp_path / f"tiny-{quant}", tiny_bundle(quant)
    for name in ("model.onnx", "model.onnx.data", "prefix_snapshot.npy"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    one, other = Manifest.load(ours), Manifest.load(theirs)
    assert (one.prompt, one.template) == (other.prompt, other.template)
    assert one.model.eos_token_ids == other.model.eos_token_ids
    assert one.model.name == "tiny"
    assert one.provenance["checkpoint"] == "tiny.gguf"


def test_rounded_weights_are_exported_with_a_warning(tmp_path: Path, tiny_bundle: BundleOf) -> None:
    tiny_foggen(GGMLQuantizationType.Q8_0).write(tmp_path / "tiny.gguf")
    result = run("tiny.gguf", "--quant", "fp32", "-o", "bundle")
    assert result.exit_code == 0
    assert "tiny.gguf: its weights were rounded to Q8_0 by whoever made the file" in result.stderr
    replies = []
    for bundle in (tmp_path / "bundle", tiny_bundle("fp32")):
        with Foggen.open(bundle) as foggen:
            replies.append([foggen.ask(question).answer for question in QUESTIONS[:40]])
    assert replies[0] == replies[1]


def test_the_weights_are_the_quantized_ones(tmp_path: Path) -> None:
    path = tiny_foggen(GGMLQuantizationType.Q8_0).write(tmp_path / "tiny.gguf")
    true = Checkpoint.open(TINY / "checkpoint").tensor(GATE).reshape(-1, 32)
    # A half-precision scale for 32 weights, of which the largest is 127 steps.
    steps = np.abs(true).max(axis=1, keepdims=True) / 127
    with opened_gguf(path) as checkpoint:
        lost = np.abs(checkpoint.tensor(GATE).reshape(-1, 32) - true)
    assert (lost < 0.6 * steps).all()
    assert (lost > 0.4 * steps).any()


def test_nothing_is_left_of_what_was_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = tiny_foggen().write(tmp_path / "tiny.gguf")
    with opened_gguf(path) as checkpoint:
        assert sorted(file.name for file in checkpoint.directory.iterdir()) == [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    assert list(tmp_path.iterdir()) == [path]


def test_a_bundle_says_which_file_it_is_of(tmp_path: Path) -> None:
    path = tiny_foggen().write(tmp_path / "tiny.gguf")
    with opened_gguf(path) as checkpoint:
        sha256 = checkpoint.weights_sha256()
    assert run(path, "--quant", "int8-weight", "-o", "bundle", "--name", "mine").exit_code == 0
    manifest = json.loads((tmp_path / "bundle" / "foggen.json").read_text())
    assert manifest["provenance"]["weights_sha256"] == sha256
    assert manifest["model"]["name"] == "mine"


def test_a_broken_file_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tiny_foggen().write(tmp_path / "tiny.gguf")
    os.truncate(path, path.stat().st_size // 2)
    assert "tiny.gguf: is cut short" in refusal("tiny.gguf", "--quant", "int4")
    path.write_text("no model")
    assert "tiny.gguf: must be a GGUF file" in refusal("tiny.gguf", "--quant", "int4")
    path.unlink()
    assert "tiny.gguf: cannot be read" in refusal("tiny.gguf", "--quant", "int4")


def test_a_part_of_a_model_leaves_nothing_behind(tmp_path: Path) -> None:
    tiny_foggen().but(split__count=2).write(tmp_path / "m-00001-of-00002.gguf")
    message = refusal("m-00001-of-00002.gguf", "--quant", "int4")
    assert "split.count: must be 1, is 2" in message


@pytest.mark.parametrize(("key", "value", "message"), [
    ("general.architecture", "bloom", "general.architecture: must be one of "),
    ("tokenizer.ggml.pre", "bloom", "tokenizer.ggml.pre: must be one of "),
    ("tokenizer.ggml.merges", None, "tokenizer.ggml.merges: must be there"),
    ("tokenizer.chat_template", None, "chat template: the tokenizer has none"),
    ("qwen3.block_count", 5, "read as a checkpoint: config.json: num_hidden_layers: must be 4 as"),
    ("qwen3.rope.scaling.type", "yarn", 'rope_scaling.rope_type: only "default" is supported'),
    ("qwen3.feed_forward_length", 500, "gate_proj.weight: shape must be [500, 256]"),
])  # fmt: skip
def test_what_cannot_be_exported_leaves_nothing_behind(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    tiny_foggen().but(**{key.replace(".", "__"): value}).write(tmp_path / "tiny.gguf")
    assert message in refusal("tiny.gguf", "--quant", "int4")


def test_missing_weights_are_named_without_the_directory_that_nobody_knows(tmp_path: Path) -> None:
    model = tiny_foggen()
    kept = {name: tensor for name, tensor in model.tensors.items() if name != "model.norm.weight"}
    replace(model, tensors=kept).write(tmp_path / "tiny.gguf")
    message = refusal("tiny.gguf", "--quant", "int4")
    assert "tiny.gguf: read as a checkpoint: tensors missing: model.norm.weight\n" in message


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_checkpoint_that_transformers_saves(tmp_path: Path, family: str) -> None:
    written = write_family(tmp_path, family)
    written.model.save_pretrained(tmp_path / "saved")
    saved = Checkpoint.open(tmp_path / "saved")
    with opened_gguf(tmp_path / "model.gguf") as checkpoint:
        ends = checkpoint.config.eos_token_ids
        assert checkpoint.architecture == saved.architecture
        assert checkpoint.config == replace(saved.config, eos_token_ids=ends)
        assert checkpoint.tied == saved.tied
        for name in saved.files.entries:
            np.testing.assert_allclose(checkpoint.tensor(name), saved.tensor(name), atol=1e-7)


def test_a_family_that_is_not_built_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_foggen().write(tmp_path / "tiny.gguf")
    monkeypatch.delitem(ARCHITECTURES, "Qwen3ForCausalLM")
    with (
        pytest.raises(CheckpointError, match=r"general.architecture: must be one of .*'qwen3'"),
        opened_gguf(path),
    ):
        pass


def test_options_that_do_not_go_with_a_file_are_refused(tmp_path: Path) -> None:
    tiny_foggen().write(tmp_path / "tiny.gguf")
    revision = refusal("tiny.gguf", "--quant", "int4", "--revision", "main")
    assert "revision: must be left out for a file, is 'main'; tiny.gguf is one" in revision
    graph = refusal("tiny.gguf", "--quant", "int4", "--graph", "optimum")
    assert "graph: must be foggen for a GGUF file, is optimum" in graph


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_foggen().write(tmp_path / "tiny.gguf")
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    message = refusal("tiny.gguf", "--quant", "int4")
    assert "tiny.gguf needs gguf: pip install 'foggen[gguf]'" in message
