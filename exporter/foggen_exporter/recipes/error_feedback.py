"""Rounding that makes up for its own errors, column by column (GPTQ, arXiv 2210.17323).

What counts is not how far a weight is off, but how far the products are, over inputs seen in
calibration. Columns are rounded in order, and each column's target makes up for what earlier errors
have done to the products. The feedback is the unit triangular factor of the inputs' second moment,
as in LDLQ (arXiv 2307.13304), which gives GPTQ's result without inverting anything.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from foggen_exporter.recipes.block_quantization import (
    BlockFormat,
    QuantizedBlocks,
    block_grid,
    pack_blocks,
)
from foggen_runtime.arrays import Float32


@dataclass(frozen=True)
class InputSample:
    """Rows that a matrix is multiplied with.

    Attributes:
        rows: (tokens, columns).
        damping: How much errors in directions that these rows do not have count, relative to those
            they have.
    """

    rows: Float32
    damping: float = 0.01


@dataclass(frozen=True)
class FeedbackQuantizer:
    """Quantizes matrices that are multiplied with inputs like those of a sample.

    Attributes:
        feedback: (columns, columns), zero on the diagonal and below.
    """

    form: BlockFormat
    feedback: Float32

    @classmethod
    def of(cls, sample: InputSample, form: BlockFormat) -> Self:
        """Factorize the second moment of the inputs."""
        moment = (sample.rows.T @ sample.rows).astype(np.float64)
        typical = float(np.trace(moment)) / len(moment) or 1.0
        moment[np.diag_indices_from(moment)] += sample.damping * typical
        # From the last column up: moment = upper @ upper.T.
        upper = np.linalg.cholesky(moment[::-1, ::-1])[::-1, ::-1]
        upper /= np.diag(upper).copy()
        return cls(form, np.triu(upper.astype(np.float32), 1))

    def quantize(self, matrix: Float32) -> QuantizedBlocks:
        """Quantize a (rows, columns) matrix; `columns` must be a multiple of the block size."""
        size = self.form.block_size
        wanted = np.ascontiguousarray(matrix.T)
        errors = np.zeros_like(wanted)
        parts = []
        for start in range(0, len(wanted), size):
            block = slice(start, start + size)
            carried = self.feedback[:start, block].T @ errors[:start]
            scales, zeros = self._grid(wanted[block], carried, self.feedback[block, block])
            target = wanted[block] + carried
            steps = np.empty((size, len(matrix)), np.uint8)
            for i in range(size):
                column = start + i
                target[i] += self.feedback[start:column, column] @ errors[start:column]
                step = np.rint(target[i] / scales[:, 0] + zeros[:, 0]).clip(0, self.form.largest)
                errors[column] = wanted[column] - (step - zeros[:, 0]) * scales[:, 0]
                steps[i] = step
            parts.append((steps.T, scales, zeros))
        steps, scales, zeros = (np.stack(part, axis=1) for part in zip(*parts, strict=True))
        return pack_blocks(steps, (scales[..., 0], zeros[..., 0]), self.form)

    def _grid(
        self, wanted: Float32, carried: Float32, feedback: Float32
    ) -> tuple[Float32, Float32]:
        """Return the grid over a block's weights as they will be after feedback.

        Each weight also makes up for the errors of the columns before it in the block.

        Args:
            wanted: (block_size, rows).
            carried: What errors before the block add to it, (block_size, rows).
            feedback: Within the block, (block_size, block_size).
        """
        unit = feedback.T + np.eye(len(feedback), dtype=np.float32)
        settled = wanted + np.linalg.solve(unit, carried)
        return block_grid(settled.T[:, None], self.form)
