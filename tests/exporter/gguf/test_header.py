"""What a GGUF file says before its weights, and all the ways in which that can be broken."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from foggen_exporter.gguf.header import GgufHeader
from foggen_runtime.errors import CheckpointError
from tests.support.gguf_models import random_family
from tests.support.gguf_writer import GgufModel


@pytest.fixture
def model() -> GgufModel:
    return random_family("qwen3").gguf


@pytest.fixture
def path(model: GgufModel, tmp_path: Path) -> Path:
    return model.write(tmp_path / "model.gguf")


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        GgufHeader.read(path)
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_metadata_and_tensors_are_as_they_were_written(model: GgufModel, path: Path) -> None:
    header = GgufHeader.read(path)
    assert header.text("general.architecture") == "qwen3"
    for key, value in model.metadata.items():
        assert header.metadata[key] == (np.float32(value) if isinstance(value, float) else value)
    embedding = header.tensors["token_embd.weight"]
    assert embedding.shape == model.tensors["model.embed_tokens.weight"].shape
    stored = np.fromfile(path, np.float32, offset=embedding.offset, count=embedding.shape[1])
    np.testing.assert_array_equal(stored, model.tensors["model.embed_tokens.weight"][0])


@pytest.mark.parametrize("left", [3, 12, 100, 5000, 9000])
def test_a_file_cut_within_its_header_is_refused(path: Path, left: int) -> None:
    os.truncate(path, left)
    assert ("does not begin with GGUF" if left < 4 else "ends within the header") in refusal(path)


def test_a_file_cut_within_its_weights_is_refused(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)
    assert "is cut short, it ends within output.weight; download it again" in refusal(path)


def test_what_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    assert "cannot be read" in refusal(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "must be a GGUF file" in refusal(path)
    path.write_bytes(b"")
    assert "must be a GGUF file" in refusal(path)


@pytest.mark.parametrize(("at", "form", "value", "message"), [
    (4, "<I", 1, "version must be 2 or 3, little-endian, is 1"),
    (4, ">I", 3, "version must be 2 or 3, little-endian, is 50331648"),
    (8, "<Q", 1 << 60, "ends within"),
    (16, "<Q", 1 << 60, "ends within the header"),
    (24, "<Q", 1 << 62, "ends within the header"),
    (52, "<I", 99, "the header is damaged: 99 is not a valid"),
])  # fmt: skip
def test_damage_is_one_clear_error(
    path: Path, at: int, form: str, value: int, message: str
) -> None:
    damaged = bytearray(path.read_bytes())
    struct.pack_into(form, damaged, at, value)
    path.write_bytes(damaged)
    assert message in refusal(path)


def test_one_of_several_files_is_refused(model: GgufModel, tmp_path: Path) -> None:
    path = model.but(split__count=3, split__no=0).write(tmp_path / "m-00001-of-00003.gguf")
    message = refusal(path)
    assert "split.count: must be 1, is 3; join the files with `llama-gguf-split --merge" in message


def test_a_quantized_tensor_of_broken_blocks_is_refused(model: GgufModel, tmp_path: Path) -> None:
    path = model.write(tmp_path / "model.gguf")
    data = bytearray(path.read_bytes())
    name = b"blk.0.attn_q.weight"
    kind = data.index(name) + len(name) + 4 + 2 * 8
    struct.pack_into("<I", data, kind, GGMLQuantizationType.Q6_K)
    path.write_bytes(data)
    assert "blk.0.attn_q.weight: rows must be of whole blocks of 256 for Q6_K" in refusal(path)


def test_values_of_the_wrong_type_are_named(model: GgufModel, tmp_path: Path) -> None:
    changed = model.but(a="text", b=1.5, c=[1, 2], d=True)
    header = GgufHeader.read(changed.write(tmp_path / "model.gguf"))
    reads: list[tuple[str, Callable[[str], object], str]] = [
        ("a", header.integer, "whole number"),
        ("b", header.integer, "whole number"),
        ("c", header.text, "text"),
        ("d", header.number, "number"),
    ]
    for key, read, rule in reads:
        with pytest.raises(CheckpointError, match=f"model.gguf: {key}: must be a {rule}, is"):
            read(key)
    for read_list in (header.texts, header.integers):
        with pytest.raises(
            CheckpointError, match=r"model.gguf: a: must be a list of .*, is 'text'"
        ):
            read_list("a")
    with pytest.raises(CheckpointError, match=r"model.gguf: e: must be there, is missing"):
        header.integer("e")
    assert header.integer("e", 7) == 7
