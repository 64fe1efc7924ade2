"""Moving outliers from activations into weights (SmoothQuant).

Where activations are rounded by row, a channel far larger than its neighbours uses up all the steps
of the row's scale. And where weights are rounded in blocks, the weights that such a channel is
multiplied with are rounded no finer than others, though their errors count most. Dividing the
channel where it is written by the power of two nearest to sqrt(largest activation / largest
weight), and multiplying the weights that read it (arXiv 2211.10438, strength 0.5), helps with both
and costs nothing on the device.
"""

from collections.abc import Mapping

import numpy as np

from foggen_exporter.architectures.channels import Channels, Exponents
from foggen_exporter.architectures.decoder import TensorSource
from foggen_runtime.arrays import Float32

# Channels that calibration never saw in use must not be scaled up without limit.
_SMALLEST_SHARE = 1e-5


def layer_scales(
    source: TensorSource, index: int, inputs: Mapping[str, Float32]
) -> dict[Channels, Exponents]:
    """Return the powers of two to divide a layer's channels by.

    Args:
        source: The checkpoint.
        index: Which layer.
        inputs: What its matrices were multiplied with in calibration, by their names.
    """
    return {
        channels: _exponents(source, channels, inputs[channels.matrix])
        for channels in source.config.layer_channels(index)
    }


def _exponents(source: TensorSource, channels: Channels, rows: Float32) -> Exponents:
    weights = [np.abs(source.tensor(reader)).max(axis=0) for reader in channels.readers]
    activations = _bounded(channels.largest(np.maximum(rows.max(axis=0), -rows.min(axis=0))))
    ratios = activations / _bounded(channels.largest(np.max(weights, axis=0)))
    exponents: Exponents = np.rint(np.log2(ratios) / 2).astype(np.int32)
    return exponents


def _bounded(largest: Float32) -> Float32:
    smallest = max(float(largest.max()) * _SMALLEST_SHARE, float(np.finfo(np.float32).tiny))
    return np.maximum(largest, np.float32(smallest))
