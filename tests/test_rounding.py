"""The rounding methods that the benchmark compares do what their papers say they do."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.activation_scales import (
    ScaledCheckpoint,
    product_error,
    rounded_scaled,
    scaled_checkpoint,
    search_scales,
)
from benchmarks.rounding_bundles import (
    AWQ,
    FORM,
    METHODS,
    SHIPPED,
    Method,
    prompts_of,
    replace_blocks,
    write_bundle,
)
from benchmarks.rounding_judging import Decisions
from benchmarks.rounding_methods import (
    HalfQuadratic,
    clip_by_products,
    clip_by_weights,
    half_quadratic,
    second_moment,
)
from foggen_exporter.activations import CalibrationPrompts, layer_inputs
from foggen_exporter.architectures.qwen3_channels import layer_channels
from foggen_exporter.block_quantization import (
    QuantizedBlocks,
    dequantize_blocks,
    quantize_blocks,
)
from foggen_exporter.bundle_files import GRAPH_FILE
from foggen_exporter.calibration import CalibrationSet
from foggen_exporter.checkpoint import Checkpoint
from foggen_exporter.error_feedback import FeedbackQuantizer, InputSample
from tests.conftest import BundleOf
from tests.support.checkpoints import TinyQwen3, write_checkpoint
from tests.support.random_bundle import random_ids

Float32 = npt.NDArray[np.float32]
CHECKPOINT = Path(__file__).parent / "tiny_foggen" / "checkpoint"
SEEDS = range(5)
HALF_QUADRATIC = METHODS[3]


def weights(seed: int, rows: int = 24, columns: int = 384) -> Float32:
    """Normal weights, a few of each row far out, all on one side."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(rows, columns))
    far = random.random(matrix.shape) < 0.01
    return np.where(far, np.abs(matrix) * 8, matrix).astype(np.float32)


def inputs(seed: int, columns: int = 384) -> InputSample:
    """Correlated inputs, a few columns far larger than others."""
    random = np.random.default_rng(seed)
    sizes = np.where(random.random(columns) < 0.03, 30.0, 1.0)
    rows = random.normal(size=(300, columns // 4)) @ random.normal(size=(columns // 4, columns))
    return InputSample((rows * sizes).astype(np.float32))


def restored(blocks: QuantizedBlocks) -> Float32:
    return dequantize_blocks(blocks, FORM)


def by_block(errors: Float32) -> Float32:
    return errors.reshape(len(errors), -1, FORM.block_size)


def lp_errors(matrix: Float32, blocks: QuantizedBlocks) -> Float32:
    errors: Float32 = (np.abs(by_block(restored(blocks) - matrix)) ** 0.7).sum(axis=-1)
    return errors


@pytest.mark.parametrize("scales", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_hqq_never_has_a_greater_lp_error_than_plain_rounding(seed: int, scales: bool) -> None:
    matrix = weights(seed)
    found = lp_errors(matrix, half_quadratic(matrix, FORM, HalfQuadratic(scales=scales)))
    assert (found <= lp_errors(matrix, quantize_blocks(matrix, FORM))).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_hqq_that_solves_for_scales_lowers_the_lp_error(seed: int) -> None:
    matrix = weights(seed)
    found = lp_errors(matrix, half_quadratic(matrix, FORM, HalfQuadratic(scales=True)))
    plain = lp_errors(matrix, quantize_blocks(matrix, FORM))
    assert (found < plain).mean() > 0.5


def test_zero_points_alone_leave_hqq_little_to_gain() -> None:
    matrix = weights(0)
    blocks, plain = by_block(matrix), quantize_blocks(matrix, FORM)
    every = []
    for zero in range(16):
        steps = np.clip(np.rint(blocks / plain.scales[..., None] + zero), 0, 15)
        errors = (steps - zero) * plain.scales[..., None] - blocks
        every.append((np.abs(errors) ** 0.7).sum(axis=-1))
    best = np.min(every, axis=0).sum()
    found = lp_errors(matrix, half_quadratic(matrix, FORM)).sum()
    assert best <= found * (1 + 1e-5)
    assert best > 0.99 * lp_errors(matrix, plain).sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_clipping_by_weights_lowers_the_squared_error_of_every_block(seed: int) -> None:
    matrix = weights(seed)
    plain, found = (
        (by_block(restored(blocks) - matrix) ** 2).sum(axis=-1)
        for blocks in (quantize_blocks(matrix, FORM), clip_by_weights(matrix, FORM))
    )
    assert (found <= plain).all()
    assert (found < plain).mean() > 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_clipping_by_products_lowers_the_error_of_each_blocks_products(seed: int) -> None:
    matrix, sample = weights(seed), inputs(seed)
    errors = []
    for blocks in (quantize_blocks(matrix, FORM), clip_by_products(matrix, FORM, sample)):
        off = by_block(restored(blocks) - matrix)
        rows = by_block(sample.rows)
        damped = sample.damping * (sample.rows**2).sum() / matrix.shape[1]
        products = np.einsum("tbk,rbk->trb", rows, off)
        errors.append((products**2).sum(axis=0) + damped * (off**2).sum(axis=-1))
    assert (errors[1] <= errors[0] * (1 + 1e-4)).all()
    assert (errors[1] < errors[0] * 0.99).mean() > 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_awq_scales_lower_the_error_of_products(seed: int) -> None:
    matrix, sample = weights(seed), inputs(seed)
    written = np.arange(matrix.shape[1], dtype=np.int32)
    scales = search_scales(matrix, sample, written, FORM)
    errors = [
        np.linalg.norm(sample.rows @ (rounded - matrix).T)
        for rounded in (
            restored(quantize_blocks(matrix, FORM)),
            rounded_scaled(matrix, scales, FORM),
        )
    ]
    assert errors[1] < 0.8 * errors[0]


def test_awq_shares_the_scales_of_channels_that_are_read_twice() -> None:
    matrix, sample = weights(0), inputs(0)
    written = np.repeat(np.arange(192, dtype=np.int32).reshape(3, 1, 64), 2, axis=1).reshape(-1)
    scales = search_scales(matrix, sample, written, FORM)
    sizes = np.abs(sample.rows).mean(axis=0).reshape(3, 2, 64).mean(axis=1).reshape(-1)
    assert scales.shape == (192,)
    assert np.array_equal(np.argsort(scales), np.argsort(sizes))


def test_awq_scales_leave_the_products_of_fp32_unchanged(tmp_path: Path) -> None:
    # Blocks of 128: rows of at least that.
    base = Checkpoint.open(write_checkpoint(tmp_path, TinyQwen3(hidden_size=128)))
    ids = tuple(random_ids(40, 300))
    prompts = CalibrationPrompts(ids[:8], (ids[8:],), tail=32)
    scaled = scaled_checkpoint(base, prompts, FORM)
    before, after = (list(layer_inputs(one, prompts))[-1] for one in (base, scaled))
    assert relative(after["logits"], before["logits"]) < 1e-4
    for channels in layer_channels(base.config, 1):
        assert relative(after[channels.matrix], before[channels.matrix]) > 1e-2
        changed = (scaled.tensor(one) for one in (channels.writer, *channels.readers))
        tensors = (base.tensor(one) for one in (channels.writer, *channels.readers))
        assert all(relative(*pair) > 1e-2 for pair in zip(changed, tensors, strict=True))


def test_a_scaled_tensor_is_read_alike_in_parts(tmp_path: Path) -> None:
    base = Checkpoint.open(write_checkpoint(tmp_path))
    _, values, *_ = layer_channels(base.config, 0)
    scales = np.linspace(0.5, 2, base.shape(values.writer)[0]).astype(np.float32)
    scaled = ScaledCheckpoint.of(base, {values: scales})
    whole = scaled.tensor(values.writer)
    assert np.array_equal(whole, base.tensor(values.writer) / scales[:, None])
    assert np.array_equal(scaled.rows(values.writer, 5, 9), whole[5:9])
    twice = ScaledCheckpoint.of(base, {values: 2 * scales})
    assert len({source.weights_sha256() for source in (base, scaled, twice)}) == 3
    by_head = scales.reshape(base.config.num_key_value_heads, 1, -1).repeat(2, axis=1).reshape(-1)
    (reader,) = values.readers
    assert np.array_equal(scaled.tensor(reader), base.tensor(reader) * by_head)


@pytest.mark.parametrize("seed", SEEDS)
def test_gptq_lowers_the_error_of_products(seed: int) -> None:
    matrix, sample = weights(seed), inputs(seed)
    moment = second_moment(sample)
    plain = restored(quantize_blocks(matrix, FORM))
    fed_back = restored(FeedbackQuantizer.of(sample, FORM).quantize(matrix))
    assert product_error(matrix, fed_back, moment) < 0.5 * product_error(matrix, plain, moment)


@pytest.mark.parametrize(("method", "quant"), [(METHODS[0], "int4"), (SHIPPED, "int4-gptq")])
def test_the_methods_that_are_shipped_give_the_recipes_bundles(
    method: Method, quant: str, tiny_bundle: BundleOf, tmp_path: Path
) -> None:
    shipped = tiny_bundle(quant)
    prompts = prompts_of(shipped, CalibrationSet.built_in().questions)
    write_bundle(CHECKPOINT, method, prompts, tmp_path / "bundle")
    for name in (GRAPH_FILE, f"{GRAPH_FILE}.data"):
        assert (tmp_path / "bundle" / name).read_bytes() == (shipped / name).read_bytes()


@pytest.mark.parametrize("method", [HALF_QUADRATIC, AWQ], ids=lambda method: method.name)
def test_other_methods_give_bundles_that_decide_and_have_the_size_of_int4(
    method: Method, tiny_bundle: BundleOf, tmp_path: Path
) -> None:
    plain, bundle = tiny_bundle("int4"), tmp_path / "bundle"
    questions = CalibrationSet.built_in().questions[:4]
    write_bundle(CHECKPOINT, method, prompts_of(plain, questions), bundle)
    one, other = ((path / f"{GRAPH_FILE}.data").read_bytes() for path in (bundle, plain))
    assert len(one) == len(other)
    assert one != other
    expected, found = (Decisions.of(path, questions).expected for path in (plain, bundle))
    assert 0 < np.abs(found - expected).mean() < 0.2


def test_blocks_of_another_size_or_name_are_refused(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle("int4"), tmp_path / "bundle")
    blocks = quantize_blocks(weights(0), FORM)
    with pytest.raises(ValueError, match=r"layers\.0\.o_proj\.weight: must have .* has 4608"):
        replace_blocks(tmp_path / "bundle", {"layers.0.o_proj": blocks})
    with pytest.raises(ValueError, match=r"layers\.9\.o_proj\.weight: must be a weight"):
        replace_blocks(tmp_path / "bundle", {"layers.9.o_proj": blocks})


def relative(one: Float32, other: Float32) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())
