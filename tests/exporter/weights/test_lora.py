"""Adapters made and merged by PEFT, against the same adapters merged while reading."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen3ForCausalLM

from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_exporter.weights.lora import MergedCheckpoint
from foggen_runtime.errors import CheckpointError
from tests.support.checkpoints import EMBEDDING, LM_HEAD, TinyQwen3, edit_json, write_checkpoint

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tied and an untied base checkpoint."""
    return {
        head: write_checkpoint(
            tmp_path_factory.mktemp(head), TinyQwen3(tie_word_embeddings=head == "tied")
        )
        for head in ("tied", "untied")
    }


@pytest.fixture(scope="module")
def plain(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_adapter(bases["tied"], tmp_path_factory.mktemp("plain"), r=4)


@pytest.fixture
def adapter(plain: Path, tmp_path: Path) -> Path:
    return shutil.copytree(plain, tmp_path / "adapter")


@contextmanager
def _unheard_warnings() -> Iterator[None]:
    """PEFT warns of tied heads, of saving embeddings, and trips over transformers' renamings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _model(base: Path) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM.from_pretrained(base, dtype=torch.float32)


def _write_adapter(base: Path, directory: Path, /, **config: Any) -> Path:
    """Save a PEFT adapter of random weights that matter beside the base's."""
    torch.manual_seed(1)
    config = {"target_modules": ["q_proj"], "init_lora_weights": False, **config}
    with _unheard_warnings():
        model = get_peft_model(_model(base), LoraConfig(**config))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter), alpha=0.05)
        model.save_pretrained(str(directory))
    return directory


def _merged_by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    with _unheard_warnings():
        model = PeftModel.from_pretrained(_model(base), adapter).merge_and_unload()
    return {name: weight.detach() for name, weight in model.state_dict().items()}


def _merged(base: Path, adapter: Path) -> MergedCheckpoint:
    return MergedCheckpoint.open(Checkpoint.open(base), adapter)


def _assert_equal_weights(merged: TensorSource, expected: Mapping[str, torch.Tensor]) -> None:
    for name, weight in expected.items():
        size = float(weight.abs().max())
        np.testing.assert_allclose(merged.tensor(name), weight.numpy(), rtol=0, atol=1e-6 * size)
        picked = [len(weight) - 1, 0, 0, 1]
        rows = merged.take(name, picked)
        np.testing.assert_allclose(rows, weight.numpy()[picked], rtol=0, atol=1e-6 * size)


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": LINEAR, "r": 8, "lora_alpha": 24},
        {"r": 4, "lora_alpha": 3, "use_rslora": True},
        {
            "target_modules": LINEAR,
            "r": 4,
            "rank_pattern": {"layers.1.*.q_proj": 6, "down_proj": 2},
            "alpha_pattern": {"self_attn.q_proj": 40, "o_proj": 1},
        },
        {"r": 4, "fan_in_fan_out": True},
        {"r": 4, "modules_to_save": ["norm", "q_norm"]},
    ],
    ids=["all linear layers", "rslora", "patterns", "fan_in_fan_out", "modules_to_save"],
)
def test_weights_are_those_that_peft_merges(
    bases: dict[str, Path], tmp_path: Path, config: dict[str, Any]
) -> None:
    adapter = _write_adapter(bases["tied"], tmp_path, **config)
    merged = _merged(bases["tied"], adapter)
    base = Checkpoint.open(bases["tied"])
    name = "model.layers.1.self_attn.q_proj.weight"
    assert not np.allclose(merged.tensor(name), base.tensor(name), rtol=1e-2)
    _assert_equal_weights(merged, _merged_by_peft(bases["tied"], adapter))
    assert (merged.tied, merged.warnings) == (True, ())


def test_a_flag_for_other_layers_changes_nothing(adapter: Path, bases: dict[str, Path]) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    expected = _merged(bases["tied"], adapter).tensor(name)
    edit_json(adapter / "adapter_config.json", lambda config: config.update(fan_in_fan_out=True))
    np.testing.assert_array_equal(_merged(bases["tied"], adapter).tensor(name), expected)


def test_rows_are_a_part_of_the_tensor(
    adapter: Path, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    whole = _merged(bases["tied"], adapter).tensor(name)
    monkeypatch.setattr("foggen_exporter.weights.tensor_files._CHUNK_BYTES", 128 * 4 * 3)
    merged = _merged(bases["tied"], adapter)
    for start, stop in [(0, 256), (7, 31), (255, 256)]:
        np.testing.assert_allclose(merged.rows(name, start, stop), whole[start:stop], rtol=1e-5)


def test_what_is_not_of_the_weights_is_the_base_s(adapter: Path, bases: dict[str, Path]) -> None:
    base = Checkpoint.open(bases["tied"])
    merged = MergedCheckpoint.open(base, adapter)
    assert merged.directory == base.directory
    assert (merged.architecture, merged.config) == (base.architecture, base.config)
    assert merged.shape(EMBEDDING) == (300, 128)


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["lm_head"]},
        {"target_modules": ["embed_tokens", "lm_head"], "lora_alpha": 3},
        {"modules_to_save": ["embed_tokens"]},
        {"modules_to_save": ["lm_head"]},
    ],
    ids=["embedding", "head", "both", "saved embedding", "saved head"],
)
def test_embedding_and_head_of_an_untied_base_are_those_that_peft_merges(
    bases: dict[str, Path], tmp_path: Path, config: dict[str, Any]
) -> None:
    adapter = _write_adapter(bases["untied"], tmp_path, r=4, **config)
    merged = _merged(bases["untied"], adapter)
    _assert_equal_weights(merged, _merged_by_peft(bases["untied"], adapter))
    assert (merged.tied, merged.warnings) == (False, ())


@pytest.mark.parametrize(
    ("config", "touched"),
    [
        ({"target_modules": ["embed_tokens"]}, EMBEDDING),
        ({"target_modules": ["lm_head"]}, LM_HEAD),
        ({"target_modules": ["embed_tokens", "lm_head"]}, f"{EMBEDDING} and {LM_HEAD}"),
        ({"modules_to_save": ["embed_tokens"]}, EMBEDDING),
        ({"modules_to_save": ["lm_head"]}, LM_HEAD),
    ],
    ids=["embedding", "head", "both", "saved embedding", "saved head"],
)
def test_changing_one_side_of_a_tied_base_unties_it(
    bases: dict[str, Path], tmp_path: Path, config: dict[str, Any], touched: str
) -> None:
    """The judge is the adapted model itself: PEFT's merging adds to the shared weight instead."""
    adapter = _write_adapter(bases["tied"], tmp_path, r=4, **config)
    merged = _merged(bases["tied"], adapter)
    assert not merged.tied
    (warning,) = merged.warnings
    assert warning.startswith(f"the adapter changes {touched}, which the checkpoint ties")
    _assert_equal_logits(merged, bases["tied"], adapter)


@pytest.mark.parametrize(
    "config", [{"target_modules": ["embed_tokens"]}, {"modules_to_save": ["embed_tokens"]}]
)
def test_changing_both_sides_alike_keeps_them_tied(
    bases: dict[str, Path], tmp_path: Path, config: dict[str, Any]
) -> None:
    adapter = _write_adapter(bases["tied"], tmp_path, r=4, ensure_weight_tying=True, **config)
    merged = _merged(bases["tied"], adapter)
    assert (merged.tied, merged.warnings) == (True, ())
    base = Checkpoint.open(bases["tied"])
    assert not np.allclose(merged.tensor(EMBEDDING), base.tensor(EMBEDDING), rtol=1e-2)
    _assert_equal_logits(merged, bases["tied"], adapter)


def _assert_equal_logits(merged: TensorSource, base: Path, adapter: Path) -> None:
    ids = torch.arange(3, 40)[None]
    with torch.no_grad(), _unheard_warnings():
        expected = PeftModel.from_pretrained(_model(base), adapter)(ids).logits
        model = _model(base)
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
        names = list(model.state_dict())
        model.load_state_dict({name: torch.from_numpy(merged.tensor(name)) for name in names})
        logits = model(ids).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_the_fingerprint_sees_base_adapter_and_scale(adapter: Path, bases: dict[str, Path]) -> None:
    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{Q_PROJ}.lora_A.weight"][0, 0] += 1

    seen = [
        Checkpoint.open(bases["tied"]).weights_sha256(),
        _merged(bases["tied"], adapter).weights_sha256(),
        _merged(bases["untied"], adapter).weights_sha256(),
    ]
    assert _merged(bases["tied"], adapter).weights_sha256() == seen[1]
    edit_json(adapter / "adapter_config.json", lambda config: config.update(lora_alpha=1))
    seen.append(_merged(bases["tied"], adapter).weights_sha256())
    _edit(adapter, nudge)
    seen.append(_merged(bases["tied"], adapter).weights_sha256())
    assert len(set(seen)) == 5


def _edit(adapter: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def _refusal(base: Path, adapter: Path) -> str:
    with pytest.raises(CheckpointError) as raised:
        _merged(base, adapter)
    return str(raised.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"peft_type": "LOHA"}, "peft_type: must be LORA, is LOHA"),
        ({"bias": "lora_only"}, "bias: must be none, is lora_only"),
        ({"use_dora": True}, "use_dora: is not supported, is true; merge the adapter with PEFT"),
        ({"lora_bias": True}, "lora_bias: is not supported"),
        ({"layer_replication": [[0, 2]]}, "layer_replication: is not supported, is [[0, 2]]"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices: is not supported"),
        ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4' changes the base weights"),
        ({"r": 0}, "r: a rank must be at least 1, is 0"),
        ({"rank_pattern": {"q_proj": 0}}, "q_proj: a rank must be at least 1, is 0"),
        ({"rank_pattern": {"(": 1}}, "(: must be a regular expression"),
        ({"lora_alpha": "16"}, 'lora_alpha: must be a number, is "16"'),
        ({"r": 5}, "q_proj.lora_A.weight: shape must be [5, 128]"),
    ],
)
def test_an_adapter_that_is_not_merged_here_is_refused(
    adapter: Path, bases: dict[str, Path], change: dict[str, object], complaint: str
) -> None:
    edit_json(adapter / "adapter_config.json", lambda config: config.update(change))
    assert complaint in _refusal(bases["tied"], adapter)


@pytest.mark.parametrize("field", ["r", "lora_alpha", "peft_type"])
def test_a_missing_field_is_named(adapter: Path, bases: dict[str, Path], field: str) -> None:
    edit_json(adapter / "adapter_config.json", lambda config: config.pop(field))
    assert f"adapter_config.json: field '{field}' is missing" in _refusal(bases["tied"], adapter)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.pop(f"{Q_PROJ}.lora_B.weight"), "must have an A and a B for a matrix"),
        (
            lambda t: t.update({f"{Q_PROJ}.lora_B.weight": torch.ones(128, 4)}),
            "q_proj.lora_B.weight: shape must be [256, 4] by the checkpoint and",
        ),
        (
            lambda t: t.update({f"{Q_PROJ}.lora_magnitude_vector": torch.ones(256)}),
            "lora_magnitude_vector: is not of a kind that can be merged",
        ),
        (
            lambda t: t.update({"model.norm.weight": torch.ones(128)}),
            "model.norm.weight: is not of a kind that can be merged",
        ),
        (
            lambda t: t.update({"base_model.model.model.layers.9.x.weight": torch.ones(1)}),
            "model.layers.9.x: the checkpoint has no model.layers.9.x.weight",
        ),
        (
            lambda t: t.update({"base_model.model.model.norm.lora_A.weight": torch.ones(1)}),
            "model.norm: must have an A and a B for a matrix",
        ),
        (
            lambda t: t.update({"base_model.model.model.norm.weight": torch.ones(127)}),
            "model.norm.weight: shape must be [128] by the checkpoint",
        ),
        (
            lambda t: t.update({f"{Q_PROJ}.base_layer.weight": torch.ones(256, 128)}),
            "the adapter was trained on another base",
        ),
        (
            lambda t: t.update({f"{Q_PROJ}.lora_B.weight": torch.ones(256, 4).to(torch.int8)}),
            "dtype must be one of BF16, F16, F32, is I8",
        ),
        (lambda t: t.clear(), "adapter: must hold tensors, holds none"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    adapter: Path,
    bases: dict[str, Path],
    change: Callable[[dict[str, torch.Tensor]], object],
    complaint: str,
) -> None:
    _edit(adapter, change)
    assert complaint in _refusal(bases["tied"], adapter)


def test_what_training_wraps_around_an_adapter_is_no_part_of_the_names(
    adapter: Path, bases: dict[str, Path]
) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    expected = _merged(bases["tied"], adapter).tensor(name)

    def wrap(tensors: dict[str, torch.Tensor]) -> None:
        for stored in list(tensors):
            tensors[f"_orig_mod.{stored}"] = tensors.pop(stored)

    _edit(adapter, wrap)
    np.testing.assert_array_equal(_merged(bases["tied"], adapter).tensor(name), expected)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_pointer_of_git_lfs_is_called_one(
    adapter: Path, bases: dict[str, Path], name: str
) -> None:
    (adapter / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aeb1\n")
    assert f"{name}: is only a git-lfs pointer" in _refusal(bases["tied"], adapter)


def test_a_rounded_copy_of_the_base_is_recognized(adapter: Path, bases: dict[str, Path]) -> None:
    weight = _model(bases["tied"]).state_dict()["model.layers.0.self_attn.q_proj.weight"]
    _edit(adapter, lambda tensors: tensors.update({f"{Q_PROJ}.base_layer.weight": weight.half()}))
    assert _merged(bases["tied"], adapter).tied


def test_missing_files_are_named(adapter: Path, bases: dict[str, Path]) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.rename(adapter / "adapter_model.bin")
    assert "save it with save_pretrained" in _refusal(bases["tied"], adapter)
    (adapter / "adapter_model.bin").unlink()
    assert "adapter_model.safetensors: is missing" in _refusal(bases["tied"], adapter)
    (adapter / "adapter_config.json").write_text(json.dumps([]))
    assert "must hold an object, holds list" in _refusal(bases["tied"], adapter)
    (adapter / "adapter_config.json").unlink()
    assert "adapter_config.json: cannot be read" in _refusal(bases["tied"], adapter)
