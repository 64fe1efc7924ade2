"""What a model's matrices are multiplied with on calibration prompts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.architectures.layers import Layer, LayerCache, embed, embed_all, fp32_graph
from foggen_runtime.arrays import Float32


@dataclass(frozen=True)
class CalibrationPrompts:
    """Prompts, each with the beginning of a reply.

    Attributes:
        prefix_ids: What all begin with, computed once: on the device it comes from the snapshot, so
            quantized layers never see it, and its activations do not count. Empty where no snapshot
            is shipped.
        suffixes: The token ids after it, one tuple for each prompt.
        tail: How many of a prompt's last positions are computed after the last layer's attention.
    """

    prefix_ids: tuple[int, ...]
    suffixes: tuple[tuple[int, ...], ...]
    tail: int

    def whole(self) -> "CalibrationPrompts":
        """Return the same prompts, their prefix computed each time and counted with the rest."""
        suffixes = tuple((*self.prefix_ids, *suffix) for suffix in self.suffixes)
        return CalibrationPrompts((), suffixes, self.tail)


def layer_inputs(source: TensorSource, prompts: CalibrationPrompts) -> Iterator[dict[str, Float32]]:
    """Run prompts through the fp32 layers, with the weights of one layer in memory at a time.

    Yields:
        For each layer, the rows that each matrix was multiplied with, (tokens of all suffixes,
        columns), by the matrix's name, e.g. `layers.0.qkv_proj`; the last layer has only the
        tails' rows of most matrices, and those of the output head, `logits`.
    """
    prefix = embed(source, prompts.prefix_ids) if prompts.prefix_ids else None
    states = embed_all(source, prompts.suffixes)
    longest = len(prompts.prefix_ids) + max(len(suffix) for suffix in prompts.suffixes)
    graph = fp32_graph(source, positions=longest, tail=prompts.tail)
    for index in range(source.config.num_hidden_layers):
        layer = Layer(graph, index)
        past = None
        if prefix is not None:
            first = layer.run(prefix)
            prefix, past = first.hidden, first.cache
        states, inputs = _run_all(layer, states, past)
        del layer
        yield inputs
        del inputs  # otherwise they would be held with the next layer's


def _run_all(
    layer: Layer, states: list[Float32], past: LayerCache | None
) -> tuple[list[Float32], dict[str, Float32]]:
    after = []
    rows: dict[str, list[Float32]] = {}
    for hidden in states:
        output = layer.run(hidden, past)
        after.append(output.hidden)
        for name, part in output.inputs.items():
            rows.setdefault(name, []).append(part)
    # Popped, so that at most one matrix's rows are held twice.
    return after, {name: np.concatenate(rows.pop(name)) for name in list(rows)}
