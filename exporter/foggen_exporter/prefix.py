"""The prompt prefix's KV cache, computed in fp32 by the graph itself, one layer at a time.

Massive activations sit on a prompt's first tokens. Keeping exactly those tokens' keys and values
in full precision spares the quantized layers from them (IntactKV, arXiv 2403.01241; PrefixQuant,
arXiv 2410.05265); here they are constant, so they cost nothing on the device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from foggen_exporter.architectures.qwen3 import Qwen3Graph, layer_infos
from foggen_exporter.block_quantization import Float32
from foggen_exporter.checkpoint import EMBEDDING, TensorSource
from foggen_exporter.graph import GraphBuilder
from foggen_exporter.recipes import find_recipe


@dataclass(frozen=True)
class LayerCache:
    """Keys and values of one layer, each (num_key_value_heads, tokens, head_dim)."""

    key: Float32
    value: Float32


def layer_caches(source: TensorSource, ids: Sequence[int]) -> Iterator[LayerCache]:
    """Run tokens through the fp32 layers, with the weights of one layer in memory at a time."""
    embedded = [source.rows(EMBEDDING, token, token + 1) for token in ids]
    hidden = np.concatenate(embedded)[None]  # (1, tokens, hidden_size)
    graph = Qwen3Graph(source, find_recipe("fp32"), positions=len(ids), tail=len(ids))
    for index in range(source.config.num_hidden_layers):
        hidden, key, value = _run_layer(graph, index, hidden)
        yield LayerCache(key[0], value[0])


def prefix_snapshot(source: TensorSource, ids: Sequence[int]) -> Float32:
    """Return the KV cache of a prompt prefix, in the form the runtime restores.

    Returns:
        (layers, 2, num_key_value_heads, tokens, head_dim), float32.
    """
    return np.stack([[cache.key, cache.value] for cache in layer_caches(source, ids)])


def _run_layer(graph: Qwen3Graph, index: int, hidden: Float32) -> tuple[Float32, ...]:
    config = graph.config
    g = GraphBuilder(weights=None)
    residual = graph.emit_single_layer(g, index)
    inputs, outputs = layer_infos(config, index, residual)
    model = g.model(inputs, outputs, "")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    empty = np.zeros((1, config.num_key_value_heads, 0, config.head_dim), np.float32)
    feeds: dict[str, npt.NDArray[np.generic]] = {
        "hidden": hidden,
        "attention_mask": np.ones((1, hidden.shape[1]), np.int64),
        f"past_key_values.{index}.key": empty,
        f"past_key_values.{index}.value": empty,
    }
    return tuple(session.run(None, feeds))
