"""Prefix snapshots without a bundle."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.architectures.layers import layer_caches


def prefix_snapshot(source: TensorSource, ids: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return the KV cache of a prompt prefix, in the form the runtime restores.

    Returns:
        (layers, 2, num_key_value_heads, tokens, head_dim), float32.
    """
    return np.stack([[cache.key, cache.value] for cache in layer_caches(source, ids)])
