"""Checkpoints as transformers writes them, and all the ways in which one can be unusable."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import Qwen3ForCausalLM

from foggen_exporter.architectures.layers import embed, embed_all
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_exporter.weights.folding import FoldedCheckpoint
from foggen_exporter.weights.tensor_files import TensorFiles
from foggen_runtime.errors import CheckpointError
from tests.support.checkpoints import (
    EMBEDDING,
    LM_HEAD,
    TinyQwen3,
    add_equal_lm_head,
    add_other_lm_head,
    edit_json,
    edit_tensors,
    shard,
    use_transformers_4_config,
    write_checkpoint,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def directory(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "checkpoint")


def _refusal(directory: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        Checkpoint.open(directory)
    return str(raised.value)


def _loaded(directory: Path) -> dict[str, torch.Tensor]:
    model = Qwen3ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return {name: weight.detach() for name, weight in model.state_dict().items()}


def test_every_tensor_is_read_as_transformers_reads_it(directory: Path) -> None:
    checkpoint = Checkpoint.open(directory)
    loaded = _loaded(directory)
    assert set(checkpoint.files.entries) | {LM_HEAD} == set(loaded)
    for name, weight in loaded.items():
        assert checkpoint.shape(name) == tuple(weight.shape)
        read = checkpoint.tensor(name)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, weight.numpy())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_float_types_are_read_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TinyQwen3(dtype=dtype))
    name = "model.layers.1.mlp.down_proj.weight"
    expected = _loaded(tmp_path)[name].numpy()
    np.testing.assert_array_equal(Checkpoint.open(tmp_path).tensor(name), expected)


def test_chunks_are_the_rows_of_all_tensors_in_order(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foggen_exporter.weights.tensor_files._CHUNK_ROWS", 100)
    names = [f"model.layers.1.self_attn.{part}_proj.weight" for part in "qk"]
    tensors, checkpoint = _loaded(directory), Checkpoint.open(directory)
    for source in (checkpoint, FoldedCheckpoint.of(checkpoint, {})):
        chunks = list(source.chunks(names))
        assert [len(chunk) for chunk in chunks] == [100, 100, 56, 100, 28]
        expected = np.concatenate([tensors[name].numpy() for name in names])
        np.testing.assert_array_equal(np.concatenate(chunks), expected)


def test_rows_are_a_part_of_the_tensor(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foggen_exporter.weights.tensor_files._CHUNK_BYTES", 128 * 2 * 7)
    checkpoint = Checkpoint.open(directory)
    whole = checkpoint.tensor(EMBEDDING)
    np.testing.assert_array_equal(whole, _loaded(directory)[EMBEDDING].numpy())
    for start, stop in [(0, 300), (5, 31), (299, 300), (8, 8)]:
        np.testing.assert_array_equal(checkpoint.rows(EMBEDDING, start, stop), whole[start:stop])
    with pytest.raises(IndexError, match="rows 299 to 301 of 300"):
        checkpoint.rows(EMBEDDING, 299, 301)


def test_configs_of_transformers_4_and_5_read_the_same(directory: Path) -> None:
    new = Checkpoint.open(directory).config
    use_transformers_4_config(directory)
    assert Checkpoint.open(directory).config == new
    assert (new.rope_theta, new.head_dim, new.num_key_value_heads) == (1e6, 64, 2)


def test_rope_theta_is_found_as_transformers_finds_it(directory: Path) -> None:
    def both(config: dict[str, Any]) -> None:
        config["rope_theta"] = 5e4
        config["rope_scaling"] = {"type": "default", "rope_theta": 3e4}

    edit_json(directory / "config.json", both)
    rope = Qwen3ForCausalLM.from_pretrained(directory).config.rope_parameters
    assert rope is not None
    assert Checkpoint.open(directory).config.rope_theta == rope["rope_theta"] == 3e4


def test_rope_parameters_by_kind_of_layer_are_read(directory: Path) -> None:
    plain = Checkpoint.open(directory).config

    def nest(config: dict[str, Any]) -> None:
        rope = config["rope_parameters"]
        config["rope_parameters"] = {
            "full_attention": rope,
            "sliding_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        }

    edit_json(directory / "config.json", nest)
    assert Checkpoint.open(directory).config == plain


def test_an_odd_vocabulary_is_fine(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TinyQwen3(vocab_size=301))
    assert Checkpoint.open(tmp_path).tensor(EMBEDDING).shape == (301, 128)


def test_the_ends_are_those_that_generation_uses(directory: Path) -> None:
    assert Checkpoint.open(directory).config.eos_token_ids == (299, 297)
    edit_json(directory / "generation_config.json", lambda config: config.update(eos_token_id=7))
    assert Checkpoint.open(directory).config.eos_token_ids == (7,)
    edit_json(directory / "generation_config.json", lambda config: config.pop("eos_token_id"))
    assert Checkpoint.open(directory).config.eos_token_ids == (299,)
    (directory / "generation_config.json").unlink()
    assert Checkpoint.open(directory).config.eos_token_ids == (299,)


def test_shards_are_the_same_weights(directory: Path) -> None:
    single = Checkpoint.open(directory)
    name = "model.layers.0.mlp.up_proj.weight"
    expected, fingerprint = single.tensor(name), single.weights_sha256()
    shard(directory, 3)
    sharded = Checkpoint.open(directory)
    assert len({entry.path for entry in sharded.files.entries.values()}) == 3
    np.testing.assert_array_equal(sharded.tensor(name), expected)
    assert sharded.weights_sha256() == fingerprint


def test_shards_need_no_index(directory: Path) -> None:
    fingerprint = Checkpoint.open(directory).weights_sha256()
    shard(directory, 3)
    index = directory / "model.safetensors.index.json"
    index.unlink()
    assert Checkpoint.open(directory).weights_sha256() == fingerprint
    second = directory / "model-00002-of-00003.safetensors"
    second.rename(directory / "kept")
    assert f"has 2 of 3 shards, and no {index.name}; missing: {second.name}" in _refusal(directory)
    (directory / "model-00002-of-00004.safetensors").touch()
    assert "must have the shards of one checkpoint, has model-00001-of-00003" in _refusal(directory)


@pytest.mark.parametrize(
    "wrap",
    [
        "module.{}",
        "_orig_mod.{}",
        "module._orig_mod.{}",
        "_fsdp_wrapped_module.{}",
        "base_model.model.{}",
        "_orig_mod.base_model.model.{}",
    ],
)
def test_what_training_wraps_around_a_model_is_no_part_of_the_names(
    directory: Path, wrap: str
) -> None:
    pristine = Checkpoint.open(directory)
    fingerprint, norm = pristine.weights_sha256(), pristine.tensor(NORM)

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[wrap.format(name)] = tensors.pop(name)

    edit_tensors(directory, rename)
    checkpoint = Checkpoint.open(directory)
    assert checkpoint.weights_sha256() == fingerprint
    np.testing.assert_array_equal(checkpoint.tensor(NORM), norm)


def test_a_wrapped_layer_and_a_wrapped_class_are_those_inside(directory: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    expected = Checkpoint.open(directory).tensor(name)
    wrapped = "model.layers.1._fsdp_wrapped_module.mlp._checkpoint_wrapped_module.up_proj.weight"
    edit_tensors(directory, lambda tensors: tensors.update({wrapped: tensors.pop(name)}))
    edit_json(
        directory / "config.json",
        lambda config: config.update(architectures=["FSDPQwen3ForCausalLM"]),
    )
    checkpoint = Checkpoint.open(directory)
    assert checkpoint.architecture == "Qwen3ForCausalLM"
    np.testing.assert_array_equal(checkpoint.tensor(name), expected)


def test_a_tensor_that_is_there_with_and_without_its_wrapper_is_refused(directory: Path) -> None:
    edit_tensors(directory, lambda tensors: tensors.update({f"_orig_mod.{NORM}": torch.ones(128)}))
    assert "holds model.norm.weight twice" in _refusal(directory)


@pytest.mark.parametrize("part", ["lora_A.default", "base_layer", "modules_to_save.default"])
def test_an_adapter_that_is_not_merged_is_refused_with_advice(directory: Path, part: str) -> None:
    name = f"base_model.model.model.layers.0.self_attn.q_proj.{part}.weight"
    edit_tensors(directory, lambda tensors: tensors.update({name: torch.ones(4, 128)}))
    assert "holds an adapter that is not merged" in (message := _refusal(directory))
    assert "merge_and_unload" in message
    assert "--adapter" in message


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:aeb1\nsize 11\n"


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "config.json",
        "tokenizer.json",
        "merges.txt",
        "chat_template.jinja",
    ],
)
def test_a_pointer_of_git_lfs_is_called_one(directory: Path, name: str) -> None:
    if name.startswith("model") and name != "model.safetensors":
        shard(directory)
    (directory / name).write_text(POINTER)
    assert f"{name}: is only a git-lfs pointer" in (message := _refusal(directory))
    assert "`git lfs pull`" in message


def test_rows_of_many_tokens_are_read_at_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, opened = Checkpoint.open(directory), []

    def counting(path: Path, framework: str) -> Any:
        opened.append(path)
        return safe_open(path, framework)

    monkeypatch.setattr("foggen_exporter.weights.tensor_files.safe_open", counting)
    ids = [299, 0, 7, 7, *range(290)]
    rows = embed(checkpoint, ids)
    assert len(opened) == 1
    np.testing.assert_array_equal(rows[0], _loaded(directory)[EMBEDDING].numpy()[ids])
    one, other = embed_all(checkpoint, [ids[:3], ids[3:]])
    assert len(opened) == 2
    np.testing.assert_array_equal(np.concatenate([one, other], axis=1), rows)
    np.testing.assert_array_equal(checkpoint.take(LM_HEAD, ids), rows[0])
    assert len(opened) == 3


def test_single_rows_are_checked_too(directory: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[EMBEDDING][5, 5] = float("nan")

    edit_tensors(directory, spoil)
    checkpoint = Checkpoint.open(directory)
    checkpoint.take(EMBEDDING, [4, 6])
    for read in (lambda: checkpoint.take(EMBEDDING, [4, 5]), checkpoint.check_finite):
        with pytest.raises(CheckpointError, match=r"embed_tokens\.weight: must be finite"):
            read()


def test_the_fingerprint_sees_one_changed_value_and_another_type(directory: Path) -> None:
    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.norm.weight"][-1] += 1

    def retype(tensors: dict[str, torch.Tensor]) -> None:  # the same bytes
        tensors["model.norm.weight"] = tensors["model.norm.weight"].view(torch.float16)

    seen = {Checkpoint.open(directory).weights_sha256()}
    for change in (nudge, retype):
        edit_tensors(directory, change)
        seen.add(Checkpoint.open(directory).weights_sha256())
    assert len(seen) == 3


def test_without_an_lm_head_the_embedding_is_the_head(directory: Path) -> None:
    checkpoint = Checkpoint.open(directory)
    assert (checkpoint.tied, checkpoint.warnings) == (True, ())
    np.testing.assert_array_equal(checkpoint.tensor(LM_HEAD), checkpoint.tensor(EMBEDDING))


@pytest.mark.parametrize("flag", [True, False])
def test_an_equal_lm_head_is_tied_whatever_the_flag(directory: Path, flag: bool) -> None:
    add_equal_lm_head(directory)
    edit_json(directory / "config.json", lambda config: config.update(tie_word_embeddings=flag))
    checkpoint = Checkpoint.open(directory)
    assert (checkpoint.tied, checkpoint.warnings) == (True, ())


def test_another_lm_head_is_untied(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TinyQwen3(tie_word_embeddings=False))
    checkpoint = Checkpoint.open(tmp_path)
    assert (checkpoint.tied, checkpoint.warnings) == (False, ())
    np.testing.assert_array_equal(checkpoint.tensor(LM_HEAD), _loaded(tmp_path)[LM_HEAD].numpy())


def test_another_lm_head_goes_before_the_flag_as_in_transformers(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "foggen_exporter.weights.tensor_files._CHUNK_BYTES", 128 * 4 * 100
    )  # 100 rows
    add_other_lm_head(directory)
    checkpoint = Checkpoint.open(directory)
    loaded = _loaded(directory)
    assert not torch.equal(loaded[LM_HEAD], loaded[EMBEDDING])
    assert not checkpoint.tied
    for name in (LM_HEAD, EMBEDDING):
        np.testing.assert_array_equal(checkpoint.tensor(name), loaded[name].numpy())
    (warning,) = checkpoint.warnings
    assert "tie_word_embeddings" in warning


def test_an_untied_checkpoint_must_have_an_lm_head(directory: Path) -> None:
    edit_json(directory / "config.json", lambda config: config.update(tie_word_embeddings=False))
    assert "tensors missing: lm_head.weight" in _refusal(directory)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"architectures": ["Qwen3MoeForCausalLM"]}, "Qwen3ForCausalLM, is ['Qwen3MoeF"),
        ({"architectures": None}, "architectures: must be one of Gemma3ForCausalLM, Llama"),
        ({"hidden_act": "gelu"}, 'hidden_act: only "silu" is supported, is "gelu"'),
        ({"attention_bias": True}, "attention_bias: only false is supported, is true"),
        ({"use_sliding_window": True}, "use_sliding_window: only false"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types: only"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config: only null"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}},
            "rope_parameters.rope_type",
        ),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, 'rope_scaling.rope_type: only "def'),
        ({"rope_parameters": {"rope_theta": 1e6, "partial_rotary_factor": 0.5}}, "is 0.5"),
        ({"rope_parameters": "default"}, "rope_parameters: must be an object"),
        ({"rope_parameters": None}, "field 'rope_theta' is missing"),
        ({"num_key_value_heads": 3}, "num_attention_heads: must be a multiple"),
        ({"head_dim": 63}, "head_dim: must be a multiple of 16 for onnxruntime's"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: must be at least 1, is 0"),
        ({"rms_norm_eps": 0.0}, "rms_norm_eps: must be positive, at least 1.18e-38 and at most"),
        ({"hidden_size": "128"}, 'hidden_size: must be an integer, is "128"'),
        ({"num_hidden_layers": 1, "layer_types": None}, "num_hidden_layers: must be 2 as in the"),
        ({"num_hidden_layers": 3}, "layer_types: must be a list with one for each of num_hidden"),
        ({"layer_types": ["full_attention"] * 3}, "num_hidden_layers (2), has 3"),
        ({"layer_types": "full_attention"}, "layer_types: must be a list with one for each of"),
        (
            {"intermediate_size": 255},
            "mlp.gate_proj.weight: shape must be [255, 128] by config.json "
            "(intermediate_size, hidden_size), is [256, 128]",
        ),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 4.0}}},
            'rope_parameters.full_attention.rope_type: only "default" is supported, is "yarn"',
        ),
        (
            {"rope_scaling": {"full_attention": {"type": "linear", "factor": 2.0}}},
            "rope_scaling.full_attention.rope_type: only",
        ),
        (
            {"rope_parameters": {"sliding_attention": {"rope_theta": 1e4}}},
            "rope_parameters: must have parameters for full_attention, has them for sliding_att",
        ),
        ({"rope_parameters": {"full_attention": 5, "x": {}}}, "must be an object, is 5"),
    ],
)
def test_a_config_that_is_not_built_is_refused(
    directory: Path, change: dict[str, object], complaint: str
) -> None:
    edit_json(directory / "config.json", lambda config: config.update(change))
    assert complaint in _refusal(directory)


@pytest.mark.parametrize("field", ["head_dim", "tie_word_embeddings", "max_position_embeddings"])
def test_a_missing_field_is_named(directory: Path, field: str) -> None:
    edit_json(directory / "config.json", lambda config: config.pop(field))
    assert f"config.json: field '{field}' is missing" in _refusal(directory)


@pytest.mark.parametrize("eos", [None, [], 300, -1])
def test_an_end_must_be_given_and_be_a_token(directory: Path, eos: object) -> None:
    (directory / "generation_config.json").unlink()
    edit_json(directory / "config.json", lambda config: config.update(eos_token_id=eos))
    assert "eos_token_id: must name at least one token below vocab_size (300)" in _refusal(
        directory
    )


def _change_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    return lambda directory: edit_tensors(directory, change)


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_change_tensors(lambda t: t.pop(NORM)), "tensors missing: model.norm.weight"),
        (_change_tensors(lambda t: t.update(extra=torch.ones(1))), "architecture: extra"),
        (_change_tensors(lambda t: t.update({NORM: torch.ones(128, 1)})), "is [128, 1]"),
        (
            _change_tensors(lambda t: t.update({NORM: torch.ones(128, dtype=torch.int8)})),
            "model.norm.weight: dtype must be one of BF16, F16, F32, is I8",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    directory: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    damage(directory)
    assert complaint in _refusal(directory)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused_when_read(directory: Path, value: float) -> None:
    name = "model.layers.1.self_attn.q_proj.weight"

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name][-1, -1] = value

    edit_tensors(directory, spoil)
    checkpoint = Checkpoint.open(directory)
    checkpoint.rows(name, 0, 255)
    with pytest.raises(CheckpointError, match=r"q_proj\.weight: must be finite"):
        checkpoint.tensor(name)


def test_a_damaged_file_is_named(directory: Path) -> None:
    weights = directory / "model.safetensors"
    content = weights.read_bytes()
    for damaged in (b"", content[:100], content[:-1], b"\xff" * 64):
        weights.write_bytes(damaged)
        assert "model.safetensors: cannot be read, it may be cut short" in _refusal(directory)


def test_a_file_that_goes_away_after_opening_is_named(directory: Path) -> None:
    checkpoint = Checkpoint.open(directory)
    (directory / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is missing"):
        checkpoint.tensor(NORM)


def test_a_missing_shard_is_named(directory: Path) -> None:
    shard(directory)
    (directory / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors: is missing" in _refusal(directory)


def test_a_tensor_in_two_shards_is_refused(directory: Path) -> None:
    shard(directory)
    one, other = sorted(directory.glob("model-*.safetensors"))
    shutil.copyfile(one, other)
    assert "as another file does" in _refusal(directory)


@pytest.mark.parametrize("weight_map", [None, {}, ["a"], {"x": "../model.safetensors"}])
def test_a_broken_index_is_refused(directory: Path, weight_map: object) -> None:
    shard(directory)
    index = directory / "model.safetensors.index.json"
    edit_json(index, lambda document: document.update(weight_map=weight_map))
    assert "model.safetensors.index.json: weight_map: must" in _refusal(directory)


def test_what_is_no_checkpoint_is_refused_with_advice(directory: Path) -> None:
    weights = directory / "model.safetensors"
    weights.rename(directory / "pytorch_model.bin")
    assert "save it with save_pretrained" in _refusal(directory)
    (directory / "pytorch_model.bin").unlink()
    assert "neither model.safetensors nor" in _refusal(directory)
    (directory / "config.json").write_text("[1]")
    assert "config.json: must hold an object, holds list" in _refusal(directory)
    (directory / "config.json").write_text("{")
    assert "config.json: cannot be read" in _refusal(directory)
    (directory / "config.json").rename(directory / "adapter_config.json")
    assert "it has no config.json; this is an adapter" in _refusal(directory)
    assert "no such directory" in _refusal(directory / "elsewhere")


@pytest.mark.serial
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_reading_tensors_one_by_one_does_not_keep_the_file_resident(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    part = torch.zeros(1024, 2048, dtype=torch.bfloat16)
    save_file({f"t{i}": part.clone() for i in range(32)}, weights)  # 128 MiB, 8 MiB each as fp32
    script = (
        "import json, sys, pathlib\n"
        "from foggen_exporter.weights.tensor_files import TensorFiles\n"
        "def peak():\n"
        "    status = pathlib.Path('/proc/self/status').read_text()\n"
        "    return int(status.split('VmHWM:')[1].split()[0])\n"
        "files, before = TensorFiles([pathlib.Path(sys.argv[1])]), peak()\n"
        "for name in files.entries: files.tensor(name)\n"
        "files.sha256()\n"
        "print(json.dumps([before, peak()]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(weights)],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = json.loads(run.stdout)
    assert after - before < 48 * 1024  # KiB


def test_no_chunk_is_empty_for_rows_longer_than_a_chunk(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foggen_exporter.weights.tensor_files._CHUNK_BYTES", 1)
    files = TensorFiles([directory / "model.safetensors"])
    name = "model.layers.0.self_attn.k_proj.weight"
    np.testing.assert_array_equal(files.tensor(name), _loaded(directory)[name].numpy())
