"""The prompt prefix's KV cache, computed in fp32 by the graph itself, one layer at a time.

Massive activations sit on a prompt's first tokens. Keeping exactly those tokens' keys and values
in full precision spares the quantized layers from them (IntactKV, arXiv 2403.01241; PrefixQuant,
arXiv 2410.05265); here they are constant, so they cost nothing on the device.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.architectures.layers import Layer, LayerCache, embed, fp32_graph
from foggen_exporter.recipes.block_quantization import Float32


def layer_caches(source: TensorSource, ids: Sequence[int]) -> Iterator[LayerCache]:
    """Run tokens through the fp32 layers, with the weights of one layer in memory at a time."""
    hidden = embed(source, ids)
    graph = fp32_graph(source, positions=len(ids), tail=len(ids))
    for index in range(source.config.num_hidden_layers):
        output = Layer(graph, index).run(hidden)
        hidden = output.hidden
        yield output.cache


def prefix_snapshot(source: TensorSource, ids: Sequence[int]) -> Float32:
    """Return the KV cache of a prompt prefix, in the form the runtime restores.

    Returns:
        (layers, 2, num_key_value_heads, tokens, head_dim), float32.
    """
    return np.stack([[cache.key, cache.value] for cache in layer_caches(source, ids)])
