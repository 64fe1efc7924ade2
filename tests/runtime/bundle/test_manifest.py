import codecs
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from foggen_runtime.bundle.manifest import MANIFEST_FILE, Manifest
from foggen_runtime.errors import BundleError
from tests.conftest import BundleOf


@pytest.fixture
def document(tiny_bundle: BundleOf) -> dict[str, Any]:
    text = (tiny_bundle("fp32") / MANIFEST_FILE).read_text(encoding="utf-8")
    manifest: dict[str, Any] = json.loads(text)
    return manifest


def load(document: Any, directory: Path) -> Manifest:
    (directory / MANIFEST_FILE).write_text(json.dumps(document), encoding="utf-8")
    return Manifest.load(directory)


def test_saving_and_loading_gives_the_same(document: dict[str, Any], tmp_path: Path) -> None:
    manifest = load(document, tmp_path)
    manifest.save(tmp_path)
    assert Manifest.load(tmp_path) == manifest
    assert json.loads((tmp_path / MANIFEST_FILE).read_text(encoding="utf-8")) == document


def test_a_byte_order_mark_is_no_part_of_it(document: dict[str, Any], tmp_path: Path) -> None:
    manifest = load(document, tmp_path)
    path = tmp_path / "foggen.json"
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert Manifest.load(tmp_path) == manifest


def test_the_hash_covers_everything_but_routing(document: dict[str, Any], tmp_path: Path) -> None:
    manifest = load(document, tmp_path)
    document["routing"] = {"tau": 0.75, "calibration": None}
    assert load(document, tmp_path).sha256 == manifest.sha256
    document["prompt"]["system"] += "!"
    assert load(document, tmp_path).sha256 != manifest.sha256


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format_version", 2, "reads up to 1, is 2; upgrade foggen"),
        ("format_version", 0, "format_version: this runtime reads 1, is 0"),
        ("format_version", "1", 'format_version: must be an integer, is "1"'),
        ("model", None, "model: must be an object, is null"),
        ("model.head_dim", 0, "head_dim: must be within \\[1, 4096\\], is 0"),
        ("model.vocab_size", True, "vocab_size: must be an integer, is true"),
        ("graph.logits_tail", 0, "logits_tail: must be within \\[1, .*\\], is 0"),
        ("graph.file", "other.onnx", "graph.file: must be listed under files"),
        ("routing.tau", 1.5, "tau: must be within \\[0, 1\\], is 1.5"),
        ("template.level_ids", [[1]], "one id list for each of the 5 levels, holds 1"),
        ("template.levels", "0.5", 'levels: must be a list, is "0.5"'),
        ("prompt.prefix_ids", [1, "x"], 'prefix_ids\\[1\\]: must be an integer, is "x"'),
        ("template.levels", ["0.0", "often"], "one id list for each of the 2 levels, holds 5"),
        ("template.levels", ["0", ".25", "0.5", "0.75", "1"], "levels: must be numbers within"),
        ("template.levels", ["0", "nan", "0.5", "0.75", "1"], "levels: must be numbers within"),
        (
            "template.levels",
            ["0", "0.5", "0.25", "0.75", "1"],
            "levels: must be in ascending",
        ),
        ("template.level_ids", [[1], [1, 2], [3], [4], []], "level_ids: must not be empty"),
        ("template.separator_ids", [], "separator_ids: must hold at least one id"),
        ("template.separator_ids", [-1], "template.separator_ids: ids must be within"),
        ("model.eos_token_ids", [10**9], "model.eos_token_ids: ids must be within"),
        ("model.context_length", 20, "model.context_length: must be above the prompt's"),
        ("graph.file", "model.ort", "file: must end in .onnx, is 'model.ort'"),
        ("graph.loop_file", "loop.onnx", "graph.loop_file: must be listed under files"),
        ("graph.onnxruntime", "new", "onnxruntime: must be a version such as 1.27, is 'new'"),
        ("graph.kv_cache", {"dtype": "int8"}, "kv_cache: dtype: must be float32, is 'int8'"),
        (
            "graph.kv_cache",
            {"scales": "s.npy"},
            "kv_cache: scales: must be null",
        ),
        ("prefix_snapshot.file", "/etc/x.npy", "prefix_snapshot.file: must be listed under files"),
        ("prefix_snapshot.dtype", "int8", "prefix_snapshot: dtype: must be float32, is 'int8'"),
        ("files", {}, "must be listed under files"),
        ("routing.tau", float("nan"), "routing: tau: must be a number, is NaN"),
        ("provenance", {"a": [float("nan")]}, "provenance.a: must not hold NaN or Infinity"),
        ("surprise", 1, "unknown field 'surprise'"),
    ],
)
def test_a_wrong_field_is_named(
    document: dict[str, Any], tmp_path: Path, field: str, value: object, message: str
) -> None:
    *parents, name = field.split(".")
    target = document
    for parent in parents:
        target = target[parent]
    target[name] = value
    with pytest.raises(BundleError, match=message):
        load(document, tmp_path)


def test_a_missing_field_is_named(document: dict[str, Any], tmp_path: Path) -> None:
    del document["template"]["separator_ids"]
    with pytest.raises(BundleError, match="template: field 'separator_ids' is missing"):
        load(document, tmp_path)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../b", "", "a//b", "./a", ".verified.json", "a/.b"]
)
def test_files_stay_inside_the_bundle(document: dict[str, Any], tmp_path: Path, name: str) -> None:
    document["files"][name] = document["files"]["model.onnx"]
    with pytest.raises(BundleError, match="names must stay inside the bundle"):
        load(document, tmp_path)


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\\b", "c:d", "*/_ORT_MEM_ADDR_/*", "a\u202eb"])
def test_files_have_names_that_every_system_can_write(
    document: dict[str, Any], tmp_path: Path, name: str
) -> None:
    document["files"][name] = document["files"]["model.onnx"]
    with pytest.raises(BundleError, match="names must not contain any of"):
        load(document, tmp_path)


@pytest.mark.parametrize("name", ["foggen.json", "FogGen.json", "device.json"])
def test_files_are_not_what_lies_beside_them(
    document: dict[str, Any], tmp_path: Path, name: str
) -> None:
    document["files"][name] = document["files"]["model.onnx"]
    with pytest.raises(BundleError, match=f"files: must not list {name}"):
        load(document, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[1, 2]", "\ufeff{}", "[" * 100_000, '{"format_version": NaN}'),
        *('{"format_version": 1e999}', '{"\\ud800": 1}', '{"format_version": ' + "9" * 5000 + "}"),
    ],
)
def test_text_that_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=MANIFEST_FILE):
        Manifest.load(tmp_path)


def test_a_directory_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"is not a bundle, it has no {MANIFEST_FILE}"):
        Manifest.load(tmp_path)


def test_every_part_is_frozen(document: dict[str, Any], tmp_path: Path) -> None:
    manifest = load(document, tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        manifest.routing.tau = 0.1  # type: ignore[misc]
