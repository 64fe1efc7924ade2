"""A manifest's groups of weights in few lines: layers of the same format go together."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from foggen_runtime.bundle.manifest import WeightFormat

_MATRIX = re.compile(r"layers\.([0-9]{1,6})\.(.+)")


@dataclass(frozen=True)
class WeightGroup:
    """Weights of one format.

    Attributes:
        name: `layers`, `embedding`, or a matrix of some layers, e.g. `o_proj`.
        form: Their format.
        layers: Which layers' matrices, e.g. `0-2, 27`; empty if the name says it all.
    """

    name: str
    form: WeightFormat
    layers: str = ""


def weight_groups(groups: Mapping[str, WeightFormat]) -> tuple[WeightGroup, ...]:
    """Gather single matrices, `layers.3.o_proj`, by their name and format; others stay.

    Args:
        groups: `quantization.groups` of a manifest.
    """
    whole = []
    matrices: dict[tuple[str, WeightFormat], list[int]] = {}
    for name, form in groups.items():
        if found := _MATRIX.fullmatch(name):
            matrices.setdefault((found[2], form), []).append(int(found[1]))
        else:
            whole.append(WeightGroup(name, form))
    gathered = (
        WeightGroup(name, form, _ranges(sorted(layers)))
        for (name, form), layers in matrices.items()
    )
    return (*whole, *gathered)


def _ranges(numbers: list[int]) -> str:
    """Write ascending numbers as ranges, e.g. `0-2, 27`."""
    runs = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    parts = []
    for _, run in runs:
        members = [number for _, number in run]
        parts.append(f"{members[0]}-{members[-1]}" if len(members) > 1 else f"{members[0]}")
    return ", ".join(parts)
