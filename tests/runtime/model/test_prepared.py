"""Prepared models: the same numbers, and never used where they do not fit."""

import hashlib
import json
import os
import shutil
import subprocess
from collections import namedtuple
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import file_info
from foggen_runtime.errors import BundleError, ConfigError
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.engine import Engine, EngineOptions, save_prepacked
from foggen_runtime.model.kv_cache import KvCache
from foggen_runtime.model.local_model import LocalModel, OpenOptions
from foggen_runtime.model.prepared import (
    PREPARED_FILE,
    checked_files,
    find_prepared,
    prepared_directory,
    read_prepared,
)
from foggen_runtime.model.preparing import needed_bytes, prepare, remove_prepared
from foggen_runtime.model.processor import processor_id
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS

OPTIONS = EngineOptions(threads=1, spinning=False)
Usage = namedtuple("Usage", "total used free")  # of the form of shutil's


@pytest.fixture
def bundle(tiny_bundle: BundleOf, tmp_path: Path) -> Bundle:
    """A bundle in a directory of its own."""
    return Bundle.open(Path(shutil.copytree(tiny_bundle("int4"), tmp_path / "bundle")))


def edit(directory: Path, path: str, value: object) -> None:
    """Change a field of `prepared.json`."""
    file = directory / PREPARED_FILE
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    *parents, name = path.split("/")
    inner = document
    for parent in parents:
        inner = inner[parent]
    inner[name] = value
    file.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize("quant", ["fp32", "int8", "int4"])
def test_decisions_are_bit_for_bit_the_same(
    quant: str, tiny_bundle: BundleOf, tmp_path: Path
) -> None:
    opened = Bundle.open(tiny_bundle(quant))
    directory = tmp_path / "prepared"
    prepare(opened, OPTIONS, directory)
    models = [
        LocalModel(opened, OpenOptions(OPTIONS, prepared=False)),
        LocalModel(opened, OpenOptions(OPTIONS, prepared_directory=directory)),
    ]
    used = [model.prepared.status if model.prepared else None for model in models]
    assert used == [None, "ready"]
    for question in QUESTIONS[:10]:
        logits, readings, answers = [], [], []
        for model in models:
            decoder = model.decoder(Decoding())
            prompt = model.tokenizer.prompt_ids(opened.manifest.prompt, question)
            readings.append(decoder.decide(prompt[model.prefix_length :]))
            answers.append(list(decoder.answer(8)))
            model.engine.cache.truncate(model.prefix_length)
            logits.append(model.engine.forward(prompt[model.prefix_length :]))
        assert readings[0].reading == readings[1].reading
        assert answers[0] == answers[1]
        assert np.array_equal(logits[0], logits[1])


def test_the_raw_weights_cannot_go(bundle: Bundle) -> None:
    """Packed weights are found by packing the raw ones: without those they would be wrong."""
    onnx = pytest.importorskip("onnx")
    directory = prepare(bundle, OPTIONS).directory
    model = onnx.load(directory / "model.onnx", load_external_data=False)
    with (directory / "model.onnx.data").open("r+b") as file:
        for tensor in model.graph.initializer:
            place = {entry.key: entry.value for entry in tensor.external_data}
            if any(key.startswith("prepacked") for key in place):
                file.seek(int(place["offset"]))
                file.write(bytes(int(place["length"])))
    manifest = bundle.manifest
    one, other = (
        Engine(place / "model.onnx", manifest.graph, OPTIONS, KvCache(manifest.model)).forward(
            range(20, 40)
        )
        for place in (bundle.directory, directory)
    )
    assert not np.allclose(one, other)


def test_it_lies_beside_the_bundle_and_is_found(bundle: Bundle) -> None:
    assert find_prepared(bundle, OPTIONS).status == "none"
    prepared = prepare(bundle, OPTIONS)
    assert prepared.directory == bundle.directory.with_name("bundle.prepared")
    assert find_prepared(bundle, OPTIONS) == prepared
    assert 0 < prepared.bytes < needed_bytes(bundle)
    model = LocalModel(bundle, OpenOptions(OPTIONS))
    assert model.prepared == prepared


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("key/onnxruntime", "1.0", "made for onnxruntime 1.0, this is "),
        ("key/processor", "riscv64-0", "made for processor riscv64-0, this is "),
        ("key/kleidiai", False, "made for kleidiai False, this is True"),
        ("key/model/model.onnx.data", "0" * 64, "made for another bundle"),
    ],
)
def test_a_stale_one_is_seen_and_not_used(
    bundle: Bundle, field: str, value: object, detail: str
) -> None:
    directory = prepare(bundle, OPTIONS).directory
    edit(directory, field, value)
    (directory / "model.onnx").write_bytes(b"of no use")
    found = find_prepared(bundle, OPTIONS)
    assert found.status == "stale"
    assert detail in str(found.detail)
    model = LocalModel(bundle, OpenOptions(OPTIONS))
    assert model.prepared == found
    model.engine.forward([20, 21])


def test_the_key_is_of_this_device_this_bundle_and_these_options(bundle: Bundle) -> None:
    directory = prepare(bundle, replace(OPTIONS, kleidiai=False)).directory
    recorded = json.loads((directory / PREPARED_FILE).read_text(encoding="utf-8"))["key"]
    files = {name: bundle.path(name).read_bytes() for name in ("model.onnx", "model.onnx.data")}
    assert recorded == {
        "onnxruntime": version("onnxruntime"),
        "processor": processor_id(),
        "kleidiai": False,
        "model": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }


def test_it_is_stale_wherever_something_else_is_wanted(
    bundle: Bundle, tiny_bundle: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = prepare(bundle, OPTIONS).directory
    other = Bundle.open(tiny_bundle("fp32"))
    found = [
        find_prepared(bundle, replace(OPTIONS, kleidiai=False), directory),
        find_prepared(other, OPTIONS, directory),
    ]
    for name, value in (("ONNXRUNTIME_VERSION", "99.0"), ("processor_id", lambda: "riscv64-0")):
        with monkeypatch.context() as changed:
            changed.setattr(f"foggen_runtime.model.prepared.{name}", value)
            found.append(find_prepared(bundle, OPTIONS, directory))
    assert [one.status for one in found] == ["stale"] * 4
    details = ("kleidiai True, this is False", "another bundle", "this is 99.0", "is riscv64-0")
    for one, detail in zip(found, details, strict=True):
        assert str(one.detail).endswith(detail)
    # Threads and spinning choose no kernels.
    assert find_prepared(bundle, EngineOptions(threads=2), directory).status == "ready"


def test_preparing_again_replaces_a_stale_one(bundle: Bundle) -> None:
    directory = prepare(bundle, OPTIONS).directory
    edit(directory, "key/onnxruntime", "1.0")
    assert prepare(bundle, OPTIONS).status == "ready"
    assert sorted(path.name for path in directory.parent.iterdir()) == ["bundle", directory.name]


def test_an_altered_file_is_refused(bundle: Bundle) -> None:
    weights = prepare(bundle, OPTIONS).directory / "model.onnx.data"
    stat = weights.stat()
    with weights.open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff\x00\xff")
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    found = find_prepared(bundle, OPTIONS)
    assert (found.status, found.graph) == ("stale", None)
    assert "changed, or prepared by another user; run foggen prepare again" in str(found.detail)
    assert LocalModel(bundle, OpenOptions(OPTIONS)).prepared == found
    remedy = r"model\.onnx\.data: SHA-256 must be .*: run foggen prepare "
    with pytest.raises(BundleError, match=remedy):
        find_prepared(bundle, OPTIONS, verify=True)
    os.truncate(weights, stat.st_size - 1)
    with pytest.raises(BundleError, match=f"must have {stat.st_size} bytes, has"):
        LocalModel(bundle, OpenOptions(OPTIONS))


def test_one_that_came_with_a_bundle_is_not_used(bundle: Bundle, tmp_path: Path) -> None:
    """Whoever makes an archive of both knows the key, and lists the hashes of any weights."""
    prepare(bundle, OPTIONS)
    archive = tmp_path / "both.tar"
    subprocess.run(["tar", "cf", archive, "-C", tmp_path, "bundle", "bundle.prepared"], check=True)
    (tmp_path / "got").mkdir()
    subprocess.run(["tar", "xf", archive, "-C", tmp_path / "got"], check=True)
    got = Bundle.open(tmp_path / "got" / "bundle")
    model = LocalModel(got, OpenOptions(OPTIONS))
    assert model.prepared is not None
    assert (model.prepared.status, model.prepared.graph) == ("stale", None)
    assert prepare(got, OPTIONS).status == "ready"


@pytest.mark.parametrize("name", ["../bundle/model.onnx", "/etc/hostname", "", "a//b", ".."])
def test_its_files_stay_inside(bundle: Bundle, name: str) -> None:
    directory = prepare(bundle, OPTIONS).directory
    path = directory / PREPARED_FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    document["files"][name] = document["files"]["model.onnx"]
    path.write_text(json.dumps(document), encoding="utf-8")
    assert find_prepared(bundle, OPTIONS).status == "none"


def test_a_pipe_in_its_place_does_not_hang(bundle: Bundle) -> None:
    directory = prepare(bundle, OPTIONS).directory
    (directory / PREPARED_FILE).unlink()
    os.mkfifo(directory / PREPARED_FILE)
    assert find_prepared(bundle, OPTIONS).status == "none"


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_who_may_read_it_is_up_to_the_umask(bundle: Bundle, mask: int) -> None:
    before = os.umask(mask)
    try:
        directory = prepare(bundle, OPTIONS).directory
    finally:
        os.umask(before)
    assert directory.stat().st_mode & 0o777 == 0o777 & ~mask
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o666 & ~mask}


def test_its_graph_is_the_one_that_is_opened(bundle: Bundle) -> None:
    directory = prepare(bundle, OPTIONS).directory
    (directory / "model.onnx").write_bytes(b"no graph")
    edit(directory, "files/model.onnx", asdict(file_info(directory / "model.onnx")))
    info = read_prepared(directory)
    assert info is not None
    checked_files(bundle, directory, info).note()
    with pytest.raises(BundleError, match=r"prepared.model\.onnx: onnxruntime .* refuses it"):
        LocalModel(bundle, OpenOptions(OPTIONS))


def test_want_of_space_is_said_before(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12 - 10**6, 10**6))
    with pytest.raises(ConfigError, match=r"output: .* must have \d+ MB free, has 1 MB"):
        prepare(bundle, OPTIONS)
    assert not prepared_directory(bundle).exists()


def test_something_else_is_neither_replaced_nor_removed(bundle: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="other is not empty and is not a prepared model"):
        prepare(bundle, OPTIONS, other)
    with pytest.raises(ConfigError, match="is something else"):
        remove_prepared(bundle, other)
    assert (other / "thesis.txt").read_text() == "years of work"


def test_something_beside_a_prepared_model_is_not_lost_with_it(bundle: Bundle) -> None:
    directory = prepare(bundle, OPTIONS).directory
    (directory / "thesis.txt").write_text("years of work")
    for act in (lambda: prepare(bundle, OPTIONS), lambda: remove_prepared(bundle)):
        with pytest.raises(ConfigError, match=r"holds thesis\.txt, which is not part of the prep"):
            act()
    assert (directory / "thesis.txt").read_text() == "years of work"


def test_what_comes_while_preparing_stays(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = prepared_directory(bundle)

    def saving(*arguments: Any) -> None:
        save_prepacked(*arguments)
        directory.mkdir()
        (directory / "thesis.txt").write_text("years of work")

    monkeypatch.setattr("foggen_runtime.model.preparing.save_prepacked", saving)
    with pytest.raises(ConfigError, match="something else has turned up there, and stays"):
        prepare(bundle, OPTIONS)
    assert (directory / "thesis.txt").read_text() == "years of work"


def test_a_linked_place_is_written_and_removed_where_the_link_leads(
    bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    link = prepared_directory(bundle)
    link.symlink_to("disk")
    for _ in range(2):
        assert prepare(bundle, OPTIONS).status == "ready"
        assert link.readlink() == Path("disk")
    assert find_prepared(bundle, OPTIONS).status == "ready"
    assert remove_prepared(bundle) > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", link.name]


def test_a_place_that_is_not_there(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="output: cannot write into"):
        prepare(bundle, OPTIONS, tmp_path / "no" / "such")


def test_removing_frees_what_was_prepared(bundle: Bundle) -> None:
    assert remove_prepared(bundle) == 0
    prepared = prepare(bundle, OPTIONS)
    assert remove_prepared(bundle) == prepared.bytes
    assert not prepared.directory.exists()
