"""Ways to round a matrix to 4-bit blocks that the exporter does not ship, for comparison.

All give the stored format of the recipe `int4`: a scale and a whole zero point for each block. They
differ in which grid a block gets, and every weight goes to the nearest of its grid.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from foggen_exporter.block_quantization import (
    BlockFormat,
    Float32,
    QuantizedBlocks,
    block_grid,
    pack_blocks,
)
from foggen_exporter.error_feedback import InputSample

# Scales and zero points, each (rows, count).
Grid = tuple[Float32, Float32]
# From errors, (rows, count, block_size), to what they cost, (rows, count).
Cost = Callable[[Float32], Float32]

# AWQ's code shrinks ranges to a half at the most, in steps of a twentieth.
CLIP_RATIOS = tuple(1 - i / 20 for i in range(11))


@dataclass(frozen=True)
class HalfQuadratic:
    """How HQQ searches; the defaults are the authors' (Badri and Shaji 2023, their code).

    Attributes:
        norm: The p of the l_p error, below 1 so that few large errors are better than many.
        beta: How strongly the two halves are tied at first, for errors in steps of the grid.
        growth: What `beta` is multiplied with in each iteration.
        iterations: How often zero points are solved for.
        scales: Whether to solve for scales as well, which HQQ leaves at the range's.
    """

    norm: float = 0.7
    beta: float = 10.0
    growth: float = 1.01
    iterations: int = 20
    scales: bool = False


def clip_by_weights(matrix: Float32, form: BlockFormat) -> QuantizedBlocks:
    """Give each block the clipped range with the least squared error of its weights."""
    return _least(matrix, form, _clipped_grid, _squares)


def clip_by_products(matrix: Float32, form: BlockFormat, sample: InputSample) -> QuantizedBlocks:
    """Give each block the clipped range with the least squared error of its own products.

    That is how AWQ clips (arXiv 2306.00978): what other blocks do to the same products is left out.
    """
    size = form.block_size
    moment = second_moment(sample)
    own = [moment[at : at + size, at : at + size] for at in range(0, len(moment), size)]
    return _least(matrix, form, _clipped_grid, partial(_product_squares, moments=np.stack(own)))


def half_quadratic(
    matrix: Float32, form: BlockFormat, search: HalfQuadratic | None = None
) -> QuantizedBlocks:
    """Round by HQQ: zero points for the least l_p error, found by half-quadratic splitting.

    A zero point is rounded at the end, as the format has only whole ones, and a block keeps its
    range's grid where that has the lower l_p error then. As a whole zero point moves nothing but
    the ends of the grid, little is left to gain unless scales are solved for, too.
    """
    search = search or HalfQuadratic()

    def grids(blocks: Float32, form: BlockFormat) -> Iterable[Grid]:
        yield block_grid(blocks, form)
        yield _half_quadratic_grid(blocks, form, search)

    return _least(matrix, form, grids, partial(_powers, norm=search.norm))


def second_moment(sample: InputSample) -> Float32:
    """Return the damped second moment of inputs, (columns, columns), as GPTQ weighs errors."""
    moment: Float32 = sample.rows.T @ sample.rows
    typical = np.trace(moment) / len(moment)
    moment[np.diag_indices_from(moment)] += sample.damping * typical
    return moment


def _least(
    matrix: Float32,
    form: BlockFormat,
    grids: Callable[[Float32, BlockFormat], Iterable[Grid]],
    cost: Cost,
) -> QuantizedBlocks:
    """Round each block on whichever of some grids costs least there; the first of equals."""
    blocks = matrix.reshape(len(matrix), -1, form.block_size)
    scales, zeros = block_grid(blocks, form)
    least = np.full_like(scales, np.inf)
    for one, other in grids(blocks, form):
        costs = cost(_restored(_steps(blocks, (one, other), form), (one, other)) - blocks)
        better = costs < least
        scales, zeros = np.where(better, one, scales), np.where(better, other, zeros)
        least = np.where(better, costs, least)
    steps = _steps(blocks, (scales, zeros), form)
    return pack_blocks(steps.astype(np.uint8), (scales, zeros), form)


def _clipped_grid(blocks: Float32, form: BlockFormat) -> Iterable[Grid]:
    return (block_grid(blocks * np.float32(ratio), form) for ratio in CLIP_RATIOS)


def _half_quadratic_grid(blocks: Float32, form: BlockFormat, search: HalfQuadratic) -> Grid:
    """Alternate between the sparse part of the errors and the grid that fits the rest.

    Everything is in steps of the range's grid, which makes `beta` mean the same for every block.
    """
    scales, _ = block_grid(blocks, form)
    weights = blocks / scales[..., None]
    zeros = np.maximum(-weights.min(axis=-1, keepdims=True), 0)
    step, beta = np.ones_like(zeros), search.beta
    for _ in range(search.iterations):
        steps = np.clip(np.rint(weights / step + zeros), 0, form.largest)
        sparse = _shrink(weights - step * (steps - zeros), beta, search.norm)
        zeros = (steps - (weights - sparse) / step).mean(axis=-1, keepdims=True)
        if search.scales:
            step = _fitted(weights - sparse, steps - zeros, step)
        beta *= search.growth
    return scales * step[..., 0], np.clip(np.rint(zeros[..., 0]), 0, form.largest)


def _fitted(wanted: Float32, codes: Float32, otherwise: Float32) -> Float32:
    """Return what to multiply each block's codes with for the least squares, (..., 1)."""
    squares = (codes**2).sum(axis=-1, keepdims=True)
    products = (wanted * codes).sum(axis=-1, keepdims=True)
    usable = (squares > 0) & (products > 0)
    fitted: Float32 = np.where(usable, products / np.where(usable, squares, 1), otherwise)
    return fitted


def _shrink(errors: Float32, beta: float, norm: float) -> Float32:
    """Return the generalized soft threshold of errors, the proximal step of the l_p norm."""
    sizes = np.maximum(np.abs(errors), np.finfo(np.float32).tiny)
    shrunk: Float32 = np.sign(errors) * np.maximum(sizes - sizes ** (norm - 1) / beta, 0)
    return shrunk


def _steps(blocks: Float32, grid: Grid, form: BlockFormat) -> Float32:
    scales, zeros = grid
    # As `quantize_blocks` computes it, so that equal grids give equal steps.
    steps = np.rint(blocks * (1 / scales)[..., None] + zeros[..., None])
    clipped: Float32 = np.clip(steps, 0, form.largest)
    return clipped


def _restored(steps: Float32, grid: Grid) -> Float32:
    scales, zeros = grid
    restored: Float32 = (steps - zeros[..., None]) * scales[..., None]
    return restored


def _squares(errors: Float32) -> Float32:
    squares: Float32 = (errors**2).sum(axis=-1)
    return squares


def _powers(errors: Float32, norm: float) -> Float32:
    powers: Float32 = (np.abs(errors) ** norm).sum(axis=-1)
    return powers


def _product_squares(errors: Float32, moments: Float32) -> Float32:
    """Return the squared products of errors with inputs, by the inputs' moments in each block."""
    by_block = errors.transpose(1, 0, 2)
    squares: Float32 = ((by_block @ moments) * by_block).sum(axis=-1).T
    return squares
