"""Outliers injected into a checkpoint without changing what it computes.

`add_outliers`: a few channels grow by a factor where they are written, and the weights that read
them shrink by it. Powers of two are exact in bfloat16, so the logits stay the same to the last bit.
They grow for every token alike.

`add_first_token_outliers`: as in large models, where a few neurons answer to a prompt's first token
alone (massive activations, arXiv 2402.17762). Neurons are added that do, and that nothing reads.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import Qwen3ForCausalLM

from tests.support.checkpoints import edit_json, edit_tensors

Place = Literal["norm", "value", "up"]
Tensors = dict[str, torch.Tensor]
PLACES: tuple[Place, ...] = ("norm", "value", "up")


@dataclass(frozen=True)
class Outliers:
    """What to inject into every layer.

    Attributes:
        factor: How much larger the channels become; a power of two.
        places: `norm`: from the norms to q, k, v and to gate, up; `value`: from v to o; `up`: from
            up to down.
        count: How many channels at each place.
        seed: For which channels.
    """

    factor: float = 256.0
    places: Sequence[Place] = PLACES
    count: int = 2
    seed: int = 0


def add_outliers(directory: Path, outliers: Outliers) -> None:
    """Rewrite a checkpoint's `model.safetensors`."""
    config = json.loads((directory / "config.json").read_text())
    random = torch.Generator().manual_seed(outliers.seed)

    def scale(tensors: Tensors, writer: str, readers: Sequence[str], heads: int) -> None:
        written = torch.ones(len(tensors[writer]))
        chosen = torch.randperm(len(written), generator=random)[: outliers.count]
        written[chosen] = outliers.factor
        # Each key/value head is read by a group of query heads, side by side.
        group = tensors[readers[0]].shape[1] // len(written)
        read = written.reshape(heads, -1).repeat_interleave(group, 0).reshape(-1)
        tensors[writer] *= written if tensors[writer].ndim == 1 else written[:, None]
        for reader in readers:
            tensors[reader] /= read

    def change(tensors: Tensors) -> None:
        for index in range(config["num_hidden_layers"]):
            for writer, readers, heads in _channels(f"model.layers.{index}", outliers.places):
                scale(tensors, writer, readers, config["num_key_value_heads"] if heads else 1)

    edit_tensors(directory, change)


def _channels(layer: str, places: Sequence[Place]) -> list[tuple[str, list[str], bool]]:
    """Return the tensors that write, those that read them, and whether by heads."""
    q, k, v, o = (f"{layer}.self_attn.{name}_proj.weight" for name in "qkvo")
    gate, up, down = (f"{layer}.mlp.{name}_proj.weight" for name in ("gate", "up", "down"))
    found: dict[Place, list[tuple[str, list[str], bool]]] = {
        "norm": [
            (f"{layer}.input_layernorm.weight", [q, k, v], False),
            (f"{layer}.post_attention_layernorm.weight", [gate, up], False),
        ],
        "value": [(v, [o], True)],
        "up": [(up, [down], False)],
    }
    return [channels for place in places for channels in found[place]]


# As many as a block of weights, so that every block size still divides them.
_ADDED = 128
# The gate's argument at the first token, and what it is at others, in its measure: SiLU shuts off
# below zero.
_OPEN, _SHUT = 40.0, -3.0


@dataclass(frozen=True)
class FirstTokenOutliers:
    """What to add to every layer but the first, which cannot tell a token from its like elsewhere.

    Attributes:
        size: The largest input of `down_proj` at the first tokens.
        tokens: How many tokens count as the first.
    """

    size: float = 4096.0
    tokens: int = 8


def add_first_token_outliers(
    directory: Path, prompts: Sequence[Sequence[int]], outliers: FirstTokenOutliers
) -> None:
    """Give MLPs two neurons that answer to a prompt's first tokens and are shut at others.

    Their block of inputs is otherwise empty, and `down_proj` ignores it.

    Args:
        directory: The checkpoint, of which `config.json` and `model.safetensors` change.
        prompts: Token ids; all begin with the same tokens.
        outliers: What to add.
    """
    normed = _mlp_inputs(directory, prompts)

    def change(tensors: Tensors) -> None:
        for index, rows in enumerate(normed):
            mlp = f"model.layers.{index}.mlp"
            first = torch.zeros(len(rows), dtype=torch.bool)
            for start in _starts(prompts):
                first[start : start + outliers.tokens] = True
            gate = _OPEN * _fit(rows, first) * (index > 0)
            mean = rows[first].mean(dim=0)
            up = mean / (rows[first] @ mean).max() * outliers.size / _OPEN
            for name, row in (("gate", gate), ("up", up)):
                weight = tensors[f"{mlp}.{name}_proj.weight"]
                added = torch.zeros(_ADDED, weight.shape[1])
                added[:2] = row
                tensors[f"{mlp}.{name}_proj.weight"] = torch.cat([weight, added.to(weight.dtype)])
            down = tensors[f"{mlp}.down_proj.weight"]
            tensors[f"{mlp}.down_proj.weight"] = torch.cat(
                [down, torch.zeros(len(down), _ADDED, dtype=down.dtype)], dim=1
            )

    edit_tensors(directory, change)
    edit_json(
        directory / "config.json",
        lambda config: config.update(intermediate_size=config["intermediate_size"] + _ADDED),
    )


def _starts(prompts: Sequence[Sequence[int]]) -> list[int]:
    return [sum(map(len, prompts[:i])) for i in range(len(prompts))]


def _fit(rows: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Return the direction nearest to 1 at first tokens and well below 0 at others.

    Both weigh the same, however many they are.
    """
    wanted = torch.where(first, 1.0, _SHUT).double()
    weights = torch.where(first, 1 / first.sum(), 1 / (~first).sum()).sqrt().double()
    found = torch.linalg.lstsq(rows.double() * weights[:, None], (wanted * weights)[:, None])
    direction: torch.Tensor = found.solution[:, 0].float()
    return direction


def _mlp_inputs(directory: Path, prompts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Return what each layer's gate reads at every token of all prompts, (tokens, hidden_size)."""
    model = Qwen3ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    seen: list[list[torch.Tensor]] = [[] for _ in model.model.layers]
    for layer, rows in zip(model.model.layers, seen, strict=True):
        layer.mlp.register_forward_pre_hook(lambda _, inputs, rows=rows: rows.append(inputs[0][0]))
    with torch.no_grad():
        for prompt in prompts:
            model(torch.tensor([list(prompt)]))
    return [torch.cat(rows) for rows in seen]
