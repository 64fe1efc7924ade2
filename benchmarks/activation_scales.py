"""AWQ's scales: channels with large activations get larger weights, which round less coarsely.

After Lin et al., "AWQ: Activation-aware Weight Quantization" (arXiv 2306.00978): a channel's
weights are multiplied with its mean activation magnitude to some power, and what writes it is
divided by the same. The power is searched for each group of matrices that read the same channels,
by the error that rounding does to their products on calibration prompts.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from benchmarks.rounding_methods import second_moment
from foggen_exporter.activations import CalibrationPrompts, layer_inputs
from foggen_exporter.architectures.qwen3_channels import layer_channels
from foggen_exporter.block_quantization import (
    BlockFormat,
    Float32,
    dequantize_blocks,
    quantize_blocks,
)
from foggen_exporter.checkpoint import DerivedCheckpoint, HeadKind, TensorSource
from foggen_exporter.error_feedback import InputSample
from foggen_exporter.folding import Channels

EXPONENTS = tuple(i / 20 for i in range(21))
# Of the largest magnitude: channels that calibration never saw in use keep bounded weights.
_SMALLEST_SHARE = 1e-5


@dataclass(frozen=True)
class ScaledCheckpoint(DerivedCheckpoint):
    """A `TensorSource` that computes what its base does, with channels scaled inside.

    As the exporter's `FoldedCheckpoint`, for scales that are no powers of two.

    Attributes:
        rows_down: By tensor, what its rows or entries are divided by.
        columns_up: By tensor, what its columns are multiplied with.
    """

    rows_down: Mapping[str, Float32]
    columns_up: Mapping[str, Float32]

    @classmethod
    def of(cls, base: TensorSource, scales: Mapping[Channels, Float32]) -> Self:
        """Fold by what written channels are divided by."""
        rows_down = {channels.writer: down for channels, down in scales.items()}
        columns_up: dict[str, Float32] = {}
        for channels, down in scales.items():
            columns_up |= dict.fromkeys(channels.readers, down[written_channels(channels, down)])
        return cls(base, rows_down, columns_up)

    @property
    def lm_head(self) -> HeadKind:
        """Whether the output projection shares the embedding's weights, which are not scaled."""
        return self.base.lm_head

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences to show to the user."""
        return self.base.warnings

    def rows(self, name: str, start: int, stop: int) -> Float32:
        """Read rows `start` to `stop` of a scaled tensor as float32."""
        rows = self.base.rows(name, start, stop)
        if name in self.rows_down:
            rows = rows / self.rows_down[name][start:stop].reshape(-1, *[1] * (rows.ndim - 1))
        if name in self.columns_up:
            rows = rows * self.columns_up[name]
        return rows

    def weights_sha256(self) -> str:
        """Hash the base's weights and the scales."""
        found = hashlib.sha256(self.base.weights_sha256().encode())
        for part in (self.rows_down, self.columns_up):
            for name, scales in sorted(part.items()):
                found.update(name.encode() + scales.tobytes())
        return found.hexdigest()


def scaled_checkpoint(
    source: TensorSource, prompts: CalibrationPrompts, form: BlockFormat
) -> ScaledCheckpoint:
    """Return a checkpoint scaled as AWQ scales it."""
    return ScaledCheckpoint.of(source, dict(_all_scales(source, prompts, form)))


def _all_scales(
    source: TensorSource, prompts: CalibrationPrompts, form: BlockFormat
) -> Iterator[tuple[Channels, Float32]]:
    for index, inputs in enumerate(layer_inputs(source, prompts)):
        for channels in layer_channels(source.config, index):
            matrix = np.concatenate([source.tensor(reader) for reader in channels.readers])
            sample = InputSample(inputs[channels.matrix], damping=0.0)
            written = written_channels(channels, source.tensor(channels.writer))
            yield channels, search_scales(matrix, sample, written, form)


def written_channels(channels: Channels, written: Float32) -> npt.NDArray[np.int32]:
    """Return which written channel each read channel is, (read channels,).

    Args:
        channels: The channels.
        written: Anything with one entry or row for each written channel.
    """
    return channels.spread(np.arange(len(written), dtype=np.int32))


def search_scales(
    matrix: Float32, sample: InputSample, written: npt.NDArray[np.int32], form: BlockFormat
) -> Float32:
    """Return what to divide written channels by, (written channels,), for the best products.

    Args:
        matrix: (rows, columns), everything that reads the channels.
        sample: What it is multiplied with.
        written: For each column, which written channel it reads.
        form: How it is rounded.
    """
    sizes = np.bincount(written, np.abs(sample.rows).mean(axis=0)) / np.bincount(written)
    sizes = np.maximum(sizes, max(sizes.max() * _SMALLEST_SHARE, np.finfo(np.float32).tiny))
    moment = second_moment(sample)
    candidates = [_power(sizes, exponent) for exponent in EXPONENTS]
    errors = [
        product_error(matrix, rounded_scaled(matrix, scales[written], form), moment)
        for scales in candidates
    ]
    return candidates[int(np.argmin(errors))]


def rounded_scaled(matrix: Float32, scales: Float32, form: BlockFormat) -> Float32:
    """Return what a matrix is once its columns are scaled, rounded and scaled back."""
    return dequantize_blocks(quantize_blocks(matrix * scales, form), form) / scales


def product_error(matrix: Float32, rounded: Float32, moment: Float32) -> float:
    """Return the squared error of all products with inputs of some second moment."""
    errors = rounded - matrix
    return float(((errors @ moment) * errors).sum())


def _power(sizes: npt.NDArray[np.float64], exponent: float) -> Float32:
    """Return a power of magnitudes, its largest as far above one as its smallest is below."""
    scales = sizes**exponent
    centred: Float32 = (scales / np.sqrt(scales.max() * scales.min())).astype(np.float32)
    return centred
