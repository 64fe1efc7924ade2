"""What rounding one group of weights does to the decision.

The model decides where the template branches, and answers at the option letters. A group's damage
is how far, in nats, the choices there diverge from fp32's when only that group is rounded. All the
models that differ from fp32 in one group go through the layers side by side: each layer is read
once, and serves every group rounded before it.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from foggen_exporter.architectures.config import EMBEDDING, LM_HEAD, DecoderConfig
from foggen_exporter.architectures.decoder import DecoderGraph, TensorSource
from foggen_exporter.architectures.layers import (
    Layer,
    LayerCache,
    as_hidden,
    embed,
    fp32_graph,
    take_all,
)
from foggen_exporter.calibration.probes import Choice, ProbeSet
from foggen_exporter.recipes.block_quantization import (
    BlockFormat,
    dequantize_blocks,
    quantize_blocks,
)
from foggen_exporter.recipes.recipe import EMBEDDING_GROUP, Recipe, fitted
from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.manifest import WeightFormat

Float64 = npt.NDArray[np.float64]
States = dict[str, list[Float32]]

_HEAD_INPUTS = "logits"
_REFERENCE = "fp32"


def damage_steps(config: DecoderConfig) -> int:
    """Return how many names `DamageSearch.steps` yields: passes of all probes through a layer."""
    layers = range(config.num_hidden_layers)
    counts = [len(config.matrix_shapes(index)) for index in layers]
    return sum(2 + sum(counts[: index + 1]) for index in layers)


@dataclass(frozen=True)
class DamageSearch:
    """Measures the damage of each group of a recipe, with one layer in memory at a time.

    The prompt prefix stays fp32's, as on the device.

    Attributes:
        source: The checkpoint.
        recipe: What groups are rounded to.
        probes: What the models are asked.
    """

    source: TensorSource
    recipe: Recipe
    probes: ProbeSet

    def steps(
        self, inputs: Iterator[Mapping[str, Float32]]
    ) -> Generator[str, None, dict[str, float]]:
        """Take the probes through the layers, yielding the name of each step before it is taken.

        Args:
            inputs: What each layer's matrices were multiplied with in calibration; only needed for
                recipes with error feedback.

        Returns:
            The damage by the name of the group.
        """
        probes = self.probes
        longest = max(len(probe.ids) for probe in probes.probes)
        positions = len(probes.prefix_ids) + longest
        graph = fp32_graph(self.source, positions, probes.rows)
        rows = take_all(self.source, EMBEDDING, [probe.ids for probe in probes.probes])
        rounded = [_rounded(some, self.recipe.embedding) for some in rows]
        states: States = {
            group: [as_hidden(self.source, some) for some in embedded]
            for group, embedded in ((_REFERENCE, rows), (EMBEDDING_GROUP, rounded))
        }
        prefix = embed(self.source, probes.prefix_ids)
        calibration: Mapping[str, Float32] = {}
        for index in self._layers:
            layer = Layer(graph, index)
            first = layer.run(prefix)
            prefix = first.hidden
            before, after = states[_REFERENCE], {}
            for group in list(states):
                yield f"damage of {group}, layer {index}"
                after[group] = _run(layer, states.pop(group), first.cache)
            del layer
            del calibration  # drop the last layer's before the next one's come
            calibration = next(inputs, {})
            for matrix in self.source.config.matrix_shapes(index):
                yield f"damage of {matrix}"
                one = _rounding(graph, matrix, self.recipe.layers)
                after[matrix] = _run(Layer(one, index, calibration), before, first.cache)
            states = after
        return self._damage(states)

    @property
    def _layers(self) -> range:
        return range(self.source.config.num_hidden_layers)

    def _damage(self, states: States) -> dict[str, float]:
        """Compare what all models choose with the choices of fp32.

        Args:
            states: The output head's inputs, (probes.rows, hidden_size), for each probe.
        """
        heads = self._heads()
        rounded = [[_rounded(head, self.recipe.embedding) for head in some] for some in heads]
        found = {
            group: self._shares(normed, rounded if group == EMBEDDING_GROUP else heads)
            for group, normed in states.items()
        }
        expected = found.pop(_REFERENCE)
        replies = zip(self.probes.probes, expected, strict=True)
        weights = [_weights(probe.choices, shares) for probe, shares in replies]
        return {
            group: sum(map(_divergence, weights, expected, shares)) / len(weights)
            for group, shares in found.items()
        }

    def _heads(self) -> list[list[Float32]]:
        """Return the output head's rows for each of each probe's choices, (tokens, hidden_size)."""
        choices = [choice for probe in self.probes.probes for choice in probe.choices]
        read = take_all(self.source, LM_HEAD, [choice.tokens for choice in choices])
        heads = iter(read)
        return [[next(heads) for _ in probe.choices] for probe in self.probes.probes]

    def _shares(
        self, normed: list[Float32], heads: Sequence[Sequence[Float32]]
    ) -> list[list[Float64]]:
        """Return the log probability that a model gives each token of each probe's choices."""
        return [
            [
                _log_shares(head @ rows[choice.row])
                for choice, head in zip(probe.choices, some, strict=True)
            ]
            for probe, rows, some in zip(self.probes.probes, normed, heads, strict=True)
        ]


def _rounding(graph: DecoderGraph, matrix: str, form: WeightFormat) -> DecoderGraph:
    """Return the graph with one matrix rounded."""
    return replace(graph, recipe=replace(graph.recipe, matrices={matrix: form}))


def _run(layer: Layer, states: Sequence[Float32], past: LayerCache) -> list[Float32]:
    """Return the next layer's inputs; of the last layer, the output head's."""
    outputs = (layer.run(hidden, past) for hidden in states)
    return [output.inputs.get(_HEAD_INPUTS, output.hidden) for output in outputs]


def _weights(choices: Sequence[Choice], log_shares: Sequence[Float64]) -> list[float]:
    """Return how likely fp32 is to reach each choice; the answer follows any level."""
    weights, reach = [], 1.0
    for choice, shares in zip(choices, log_shares, strict=True):
        weights.append(1.0 if choice.taken is None else reach)
        if choice.taken is not None:
            reach *= float(np.exp(shares[choice.taken]))
    return weights


def _divergence(
    weights: Sequence[float], expected: Sequence[Float64], found: Sequence[Float64]
) -> float:
    """Return the Kullback-Leibler divergence of a reply's choices from the expected ones."""
    choices = zip(weights, expected, found, strict=True)
    return sum(weight * float(np.exp(one) @ (one - other)) for weight, one, other in choices)


def _log_shares(logits: Float32) -> Float64:
    shifted = logits.astype(np.float64) - logits.max()
    shares: Float64 = shifted - np.log(np.exp(shifted).sum())
    return shares


def _rounded(rows: Float32, form: WeightFormat) -> Float32:
    """Return the embedding's rows, (tokens, columns), as they are after storing."""
    form = fitted(form, rows.shape[1])
    if form.block_size is None:
        raise ValueError("embedding: must be stored in blocks")
    blocks = BlockFormat(form.bits, form.block_size, bool(form.symmetric))
    return dequantize_blocks(quantize_blocks(rows, blocks), blocks)
