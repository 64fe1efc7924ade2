"""The layers of a checkpoint in fp32, with the weights of one in memory at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foggen_exporter.architectures.config import EMBEDDING
from foggen_exporter.architectures.decoder import DecoderGraph, TensorSource, layer_infos
from foggen_exporter.graphs.builder import GraphBuilder, tensor_info
from foggen_exporter.recipes.recipe import find_recipe
from foggen_runtime.arrays import Float32
from foggen_runtime.model.quiet_onnxruntime import ort


@dataclass(frozen=True)
class LayerCache:
    """Keys and values of one layer, each (num_key_value_heads, tokens, head_dim)."""

    key: Float32
    value: Float32


@dataclass(frozen=True)
class LayerOutput:
    """What a layer makes of some tokens.

    Attributes:
        hidden: (1, tokens, hidden_size), the input of the next layer.
        cache: Of the past and these tokens.
        inputs: What each matrix of the layer was multiplied with, (tokens, columns), by the
            matrix's name. The last layer, which knows only the tail after attention, adds the
            output head's: `logits`.
    """

    hidden: Float32
    cache: LayerCache
    inputs: dict[str, Float32]


class Layer:
    """One decoder layer in a session of its own."""

    def __init__(
        self, graph: DecoderGraph, index: int, inputs: Mapping[str, Float32] | None = None
    ) -> None:
        """Emit and open it.

        Args:
            graph: The model, in fp32 but for what is to be tried.
            index: Which layer.
            inputs: Rows that its matrices are multiplied with in calibration, by their names.
        """
        self._config = graph.source.config
        self._past = [f"past_key_values.{index}.{part}" for part in ("key", "value")]
        g = GraphBuilder(weights=None)
        layer = graph.emit_layer(g, index, inputs or {})
        given, outputs = layer_infos(self._config, index, layer.residual)
        self._tapped = dict(layer.read)
        if index == self._config.num_hidden_layers - 1:
            self._tapped["logits"] = layer.normed
        taps = [
            tensor_info(value, np.float32, [1, f"{name}.rows", f"{name}.columns"])
            for name, value in self._tapped.items()
        ]
        model = g.model(given, [*outputs, *taps], "").SerializeToString()
        del g  # its weights are in the model now
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # it would take more than it gives out
        # Layers come and go: one that waits must not keep a processor from the one that runs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, hidden: Float32, past: LayerCache | None = None) -> LayerOutput:
        """Run tokens, (1, tokens, hidden_size), after a past."""
        config = self._config
        empty = np.zeros((config.num_key_value_heads, 0, config.head_dim), np.float32)
        past = past or LayerCache(empty, empty)
        feeds: dict[str, npt.NDArray[np.generic]] = {
            "hidden": hidden,
            "attention_mask": np.ones((1, past.key.shape[1] + hidden.shape[1]), np.int64),
            **dict(zip(self._past, (past.key[None], past.value[None]), strict=True)),
        }
        after, key, value, *taps = self._session.run(None, feeds)
        inputs = {name: rows[0] for name, rows in zip(self._tapped, taps, strict=True)}
        return LayerOutput(after, LayerCache(key[0], value[0]), inputs)


def fp32_graph(source: TensorSource, positions: int, tail: int) -> DecoderGraph:
    """Return a model whose layers are to run as they are in the checkpoint.

    Args:
        source: The checkpoint.
        positions: How many tokens there are at most.
        tail: How many last rows go on after the last layer's attention.
    """
    return DecoderGraph(source, find_recipe("fp32"), positions, tail)


def layer_caches(source: TensorSource, ids: Sequence[int]) -> Iterator[LayerCache]:
    """Run tokens through all layers, and yield what each keeps of them.

    Of a prompt prefix it is the snapshot that a bundle ships. Massive activations sit on a prompt's
    first tokens, and keeping exactly those tokens' keys and values in full precision spares the
    quantized layers from them (IntactKV, arXiv 2403.01241; PrefixQuant, arXiv 2410.05265); ours are
    constant, so they cost nothing on the device.
    """
    hidden = embed(source, ids)
    graph = fp32_graph(source, positions=len(ids), tail=len(ids))
    for index in range(source.config.num_hidden_layers):
        output = Layer(graph, index).run(hidden)
        hidden = output.hidden
        yield output.cache


def embed(source: TensorSource, ids: Sequence[int]) -> Float32:
    """Return the first layer's `hidden` for some tokens: (1, tokens, hidden_size)."""
    return as_hidden(source, source.take(EMBEDDING, ids))


def embed_all(source: TensorSource, sequences: Sequence[Sequence[int]]) -> list[Float32]:
    """Return what `embed` does for each of several sequences."""
    return [as_hidden(source, rows) for rows in take_all(source, EMBEDDING, sequences)]


def as_hidden(source: TensorSource, rows: Float32) -> Float32:
    """Return what rows of the embedding, (tokens, hidden_size), are to the first layer."""
    return rows[None] * np.float32(source.config.embedding_scale)


def take_all(
    source: TensorSource, tensor: str, sequences: Sequence[Sequence[int]]
) -> list[Float32]:
    """Return a tensor's rows for each of several sequences of tokens, read at once."""
    rows = source.take(tensor, [token for ids in sequences for token in ids])
    ends = np.cumsum([len(ids) for ids in sequences])
    return np.split(rows, ends[:-1])
