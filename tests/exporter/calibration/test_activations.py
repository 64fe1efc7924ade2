"""Calibration activations against what transformers multiplies its weights with."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen3ForCausalLM

from foggen_exporter.calibration.activations import CalibrationPrompts, layer_inputs
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.arrays import Float32
from tests.support.checkpoints import write_checkpoint
from tests.support.random_bundle import random_ids

PREFIX, SUFFIXES, TAIL = 6, (11, 17), 4
MODULES = {
    "qkv_proj": "self_attn.q_proj",
    "o_proj": "self_attn.o_proj",
    "gate_up_proj": "mlp.gate_proj",
    "down_proj": "mlp.down_proj",
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def reference_inputs(directory: Path, ids: list[int]) -> dict[str, Float32]:
    """Return the input of every linear layer, (tokens, columns), by the module's name."""
    model = Qwen3ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    seen: dict[str, Float32] = {}

    def watch(name: str) -> object:
        def hook(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
            seen[name] = inputs[0][0].numpy()

        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(watch(name))  # type: ignore[arg-type]
    with torch.no_grad():
        model(torch.tensor([ids]))
    return seen


@pytest.mark.parametrize("whole", [False, True], ids=["after the prefix", "of whole prompts"])
def test_they_are_the_inputs_of_every_product(directory: Path, whole: bool) -> None:
    prefix = random_ids(PREFIX, 300)
    suffixes = [random_ids(count, 300, seed=count) for count in SUFFIXES]
    prompts = CalibrationPrompts(tuple(prefix), tuple(map(tuple, suffixes)), TAIL)
    start = 0 if whole else PREFIX
    taken = prompts.whole() if whole else prompts
    first, last = layer_inputs(Checkpoint.open(directory), taken)
    assert set(first) == {f"layers.0.{name}" for name in MODULES}
    assert set(last) == {f"layers.1.{name}" for name in MODULES} | {"logits"}
    seen = [reference_inputs(directory, prefix + suffix) for suffix in suffixes]

    def expected(module: str, tail: int | None) -> Float32:
        return np.concatenate([inputs[module][start:][-(tail or 0) :] for inputs in seen])

    for name, module in MODULES.items():
        rows = expected(f"model.layers.0.{module}", None)
        assert np.allclose(first[f"layers.0.{name}"], rows, atol=1e-4)
        tail = None if name == "qkv_proj" else TAIL
        rows = expected(f"model.layers.1.{module}", tail)
        assert np.allclose(last[f"layers.1.{name}"], rows, atol=1e-4)
    assert np.allclose(last["logits"], expected("lm_head", TAIL), atol=1e-4)
