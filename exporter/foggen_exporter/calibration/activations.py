"""What a model's matrices are multiplied with on calibration prompts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.architectures.layers import Layer, LayerCache, embed, embed_all, fp32_graph
from foggen_runtime.arrays import Float32


@dataclass(frozen=True)
class CalibrationPrompts:
    """Prompts that share a prefix, each with the beginning of a reply.

    Attributes:
        prefix_ids: Computed once; on the device it comes from the snapshot, so quantized layers
            never see it, and its activations do not count.
        suffixes: The token ids after it, one tuple for each prompt.
        tail: How many of a prompt's last positions are computed after the last layer's attention.
    """

    prefix_ids: tuple[int, ...]
    suffixes: tuple[tuple[int, ...], ...]
    tail: int


def layer_inputs(source: TensorSource, prompts: CalibrationPrompts) -> Iterator[dict[str, Float32]]:
    """Run prompts through the fp32 layers, with the weights of one layer in memory at a time.

    Yields:
        For each layer, the rows that each matrix was multiplied with, (tokens of all suffixes,
        columns), by the matrix's name, e.g. `layers.0.qkv_proj`; the last layer has only the
        tails' rows of most matrices, and those of the output head, `logits`.
    """
    prefix = embed(source, prompts.prefix_ids)
    states = embed_all(source, prompts.suffixes)
    longest = len(prompts.prefix_ids) + max(len(suffix) for suffix in prompts.suffixes)
    graph = fp32_graph(source, positions=longest, tail=prompts.tail)
    for index in range(source.config.num_hidden_layers):
        layer = Layer(graph, index)
        first = layer.run(prefix)
        prefix = first.hidden
        states, inputs = _run_all(layer, states, first.cache)
        del layer
        yield inputs
        del inputs  # otherwise they would be held with the next layer's


def _run_all(
    layer: Layer, states: list[Float32], past: LayerCache
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
