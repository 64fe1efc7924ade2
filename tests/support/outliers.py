"""Outliers injected into a checkpoint without changing what it computes.

A few channels grow by a factor where they are written, and the weights that read them shrink by
it. Powers of two are exact in bfloat16, so the logits stay the same to the last bit.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from tests.support.checkpoints import edit_tensors

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
