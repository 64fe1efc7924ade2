"""Weights of GGUF files, held against what was written and against transformers' own reading."""

import hashlib
import os
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from foggen_exporter.gguf.config import read_model
from foggen_exporter.gguf.files import GgufFiles
from foggen_exporter.gguf.header import GgufHeader
from foggen_runtime.arrays import Float32
from foggen_runtime.errors import CheckpointError
from tests.support.gguf_models import FAMILIES, random_family, write_family

GATE = "model.layers.0.mlp.gate_proj.weight"
QUERIES = "model.layers.1.self_attn.q_proj.weight"


def opened(path: Path) -> GgufFiles:
    return read_model(GgufHeader.read(path))[1]


def loaded(path: Path) -> dict[str, Float32]:
    """Read a file as transformers does."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    return {name: weight.detach().numpy() for name, weight in model.state_dict().items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_is_what_the_converter_was_given(tmp_path: Path, family: str) -> None:
    written = write_family(tmp_path, family)
    files = opened(tmp_path / "model.gguf")
    assert set(files.entries) == set(written.tensors)
    # Gemma's gains are stored larger by one, which rounds what is below half a step of 1.
    nearness = 1e-7 if family == "gemma3" else 0.0
    for name, tensor in written.tensors.items():
        np.testing.assert_allclose(files.tensor(name), tensor, rtol=0, atol=nearness)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_1])
def test_every_tensor_is_read_as_transformers_reads_it(
    tmp_path: Path, family: str, kind: GGMLQuantizationType
) -> None:
    write_family(tmp_path, family, kind)
    files = opened(tmp_path / "model.gguf")
    expected = loaded(tmp_path / "model.gguf")
    assert set(files.entries) | {"lm_head.weight"} == set(expected)
    for name in files.entries:
        np.testing.assert_array_equal(files.tensor(name), expected[name])


@pytest.mark.slow
def test_a_real_file_is_read_as_transformers_reads_it() -> None:
    """For K-quants, too, which the gguf package cannot write: `FOGGEN_GGUF=FILE pytest -m slow`."""
    if not (name := os.environ.get("FOGGEN_GGUF")):
        pytest.skip("FOGGEN_GGUF names no file")
    files, expected = opened(Path(name)), loaded(Path(name))
    assert set(files.entries) | {"lm_head.weight"} == set(expected)
    for tensor in files.entries:
        np.testing.assert_array_equal(files.tensor(tensor), expected[tensor])


def test_q8_0_is_a_scale_and_32_bytes(tmp_path: Path) -> None:
    write_family(tmp_path, "llama", GGMLQuantizationType.Q8_0)
    files = opened(tmp_path / "model.gguf")
    tensor = GgufHeader.read(tmp_path / "model.gguf").tensors["blk.0.ffn_gate.weight"]
    block = np.dtype([("scale", np.float16), ("codes", np.int8, 32)])
    count = int(np.prod(tensor.shape)) // 32
    blocks = np.fromfile(tmp_path / "model.gguf", block, count, offset=tensor.offset)
    values = blocks["scale"].astype(np.float32)[:, None] * blocks["codes"].astype(np.float32)
    np.testing.assert_array_equal(files.tensor(GATE), values.reshape(tensor.shape))


@pytest.mark.parametrize("name", [GATE, QUERIES])
def test_rows_are_a_part_of_the_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    written = write_family(tmp_path, "llama")
    monkeypatch.setattr("foggen_exporter.weights.tensor_files._CHUNK_BYTES", 96 * 4 * 7)
    files, whole = opened(tmp_path / "model.gguf"), written.tensors[name]
    np.testing.assert_array_equal(files.tensor(name), whole)
    for start, stop in [(0, 64), (5, 31), (63, 64), (8, 8)]:
        np.testing.assert_array_equal(files.rows(name, start, stop), whole[start:stop])
    np.testing.assert_array_equal(files.take(name, [40, 3, 3]), whole[[40, 3, 3]])
    with pytest.raises(IndexError, match=f"rows 0 to {len(whole) + 1} of {len(whole)}"):
        files.rows(name, 0, len(whole) + 1)


def test_queries_and_keys_are_sorted_by_bias_and_weight_alike(tmp_path: Path) -> None:
    written = random_family("llama").gguf
    bias = "model.layers.0.self_attn.k_proj.bias"
    tensors = {**written.tensors, bias: np.arange(64, dtype=np.float32)}
    changed = type(written)("llama", written.metadata, tensors)
    np.testing.assert_array_equal(
        opened(changed.write(tmp_path / "model.gguf")).tensor(bias), tensors[bias]
    )


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    written = random_family("qwen2", GGMLQuantizationType.Q8_0).gguf
    path = written.write(tmp_path / "model.gguf")
    tensor = GgufHeader.read(path).tensors["blk.0.ffn_gate.weight"]
    data = bytearray(path.read_bytes())
    data[tensor.offset : tensor.offset + 2] = np.float16(np.nan).tobytes()
    path.write_bytes(data)
    for read in (opened(path).check_finite, lambda: opened(path).rows(GATE, 0, 1)):
        with pytest.raises(CheckpointError, match=f"{GATE}: must be finite"):
            read()


def test_a_type_that_the_package_cannot_read_is_refused(tmp_path: Path) -> None:
    write_family(tmp_path, "qwen2")
    path = tmp_path / "model.gguf"
    data = bytearray(path.read_bytes())
    name = b"blk.0.ffn_gate.weight"
    kind = data.index(name) + len(name) + 4 + 2 * 8
    data[kind : kind + 4] = int(GGMLQuantizationType.Q8_1).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"blk.0.ffn_gate.weight: type must be .* is Q8_1;"):
        opened(path).check_dtypes()
    write_family(tmp_path, "qwen2", GGMLQuantizationType.Q4_0)
    opened(path).check_dtypes()


def test_a_file_that_is_gone_meanwhile_is_refused(tmp_path: Path) -> None:
    write_family(tmp_path, "qwen2")
    files = opened(tmp_path / "model.gguf")
    (tmp_path / "model.gguf").unlink()
    with pytest.raises(CheckpointError, match=r"model.gguf: cannot be read"):
        files.tensor(GATE)


def test_the_hash_is_the_files(tmp_path: Path) -> None:
    write_family(tmp_path, "qwen2")
    data = (tmp_path / "model.gguf").read_bytes()
    assert opened(tmp_path / "model.gguf").sha256() == hashlib.sha256(data).hexdigest()


def test_rounded_kinds_are_named_by_how_often_they_occur(tmp_path: Path) -> None:
    write_family(tmp_path, "qwen2", GGMLQuantizationType.Q4_0)
    assert opened(tmp_path / "model.gguf").rounded_kinds == ["Q4_0"]
    for kind in (gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16):
        write_family(tmp_path, "qwen2", kind)
        assert opened(tmp_path / "model.gguf").rounded_kinds == []
