"""Bundles whose weights are rounded by a method of choice, and that are otherwise recipe `int4`."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.activation_scales import scaled_checkpoint
from benchmarks.rounding_methods import (
    HalfQuadratic,
    clip_by_products,
    clip_by_weights,
    half_quadratic,
)
from foggen_exporter.activations import CalibrationPrompts, layer_inputs
from foggen_exporter.architectures.qwen3_channels import layer_channels
from foggen_exporter.block_quantization import (
    BlockFormat,
    Float32,
    QuantizedBlocks,
    quantize_blocks,
)
from foggen_exporter.bundle_files import GRAPH_FILE
from foggen_exporter.calibration import calibration_prompts
from foggen_exporter.checkpoint import EMBEDDING, Checkpoint, TensorSource
from foggen_exporter.error_feedback import FeedbackQuantizer, InputSample
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.folding import Channels, Exponents, FoldedCheckpoint
from foggen_exporter.recipes import find_recipe
from foggen_exporter.smoothing import layer_scales
from foggen_exporter.template import load_template
from foggen_runtime.manifest import TOKENIZER_FILE, Manifest, file_info
from foggen_runtime.tokenizer import QuestionTokenizer

FORM = BlockFormat(bits=4, block_size=128, symmetric=False)
# As the exporter rounds a tied embedding; a test holds the bundle against the shipped recipe's.
_TIED_DAMPING = 0.3

Quantize = Callable[[Float32], QuantizedBlocks]
# From what a matrix is multiplied with to how its tensors are rounded.
Rounder = Callable[[InputSample], Quantize]
# A checkpoint that computes the same, with channels scaled inside.
Scaler = Callable[[TensorSource, CalibrationPrompts, BlockFormat], TensorSource]


@dataclass(frozen=True)
class Method:
    """A way to round a model.

    Attributes:
        layers: How the layers' matrices are rounded.
        embedding: How embedding and head are.
        calibrated: Whether one of the two looks at inputs; they get no rows otherwise.
        scale: How the layers' channels are scaled before, if they are.
    """

    name: str
    layers: Rounder
    embedding: Rounder
    calibrated: bool = False
    scale: Scaler | None = None


def _plain(sample: InputSample) -> Quantize:
    return partial(quantize_blocks, form=FORM)


def _feedback(sample: InputSample) -> Quantize:
    return FeedbackQuantizer.of(sample, FORM).quantize


def _clipped(sample: InputSample) -> Quantize:
    return partial(clip_by_weights, form=FORM)


def _clipped_products(sample: InputSample) -> Quantize:
    return partial(clip_by_products, form=FORM, sample=sample)


def _half_quadratic(sample: InputSample) -> Quantize:
    return partial(half_quadratic, form=FORM)


def _half_quadratic_scales(sample: InputSample) -> Quantize:
    return partial(half_quadratic, form=FORM, search=HalfQuadratic(scales=True))


def smoothed(source: TensorSource, prompts: CalibrationPrompts, form: BlockFormat) -> TensorSource:
    """Scale as the exporter does, by SmoothQuant; how weights are rounded does not matter to it."""
    scales: dict[Channels, Exponents] = {}
    for index, inputs in enumerate(layer_inputs(source, prompts)):
        scales |= layer_scales(source, index, inputs)
    return FoldedCheckpoint.of(source, scales)


AWQ = Method("AWQ", _clipped_products, _clipped_products, calibrated=True, scale=scaled_checkpoint)
SHIPPED = Method("SmoothQuant, then GPTQ", _feedback, _feedback, calibrated=True, scale=smoothed)
GPTQ = Method("GPTQ", _feedback, _feedback, calibrated=True)
AWQ_THEN_GPTQ = replace(SHIPPED, name="AWQ, then GPTQ", scale=scaled_checkpoint)
LAYERS_ONLY = replace(SHIPPED, name="layers as shipped; embedding plain", embedding=_plain)
EMBEDDING_ONLY = Method("layers plain; embedding GPTQ", _plain, _feedback, calibrated=True)
METHODS = (
    Method("plain", _plain, _plain),
    Method("clipped ranges", _clipped, _clipped),
    Method("HQQ", _half_quadratic, _half_quadratic),
    Method("HQQ, scales too", _half_quadratic_scales, _half_quadratic_scales),
    Method("SmoothQuant only", _plain, _plain, scale=smoothed),
    Method("AWQ, scales only", _plain, _plain, scale=scaled_checkpoint),
    AWQ,
    GPTQ,
    SHIPPED,
    AWQ_THEN_GPTQ,
    LAYERS_ONLY,
    EMBEDDING_ONLY,
)
# For these, it is worth seeing what other calibration questions do.
REPEATED = (GPTQ, SHIPPED, AWQ_THEN_GPTQ)


def prompts_of(bundle: Path, questions: Sequence[str]) -> CalibrationPrompts:
    """Return calibration prompts as the exporter makes them for a bundle's model."""
    manifest = Manifest.load(bundle)
    tokenizer = QuestionTokenizer.from_file(bundle / TOKENIZER_FILE)
    tail = manifest.graph.logits_tail
    return calibration_prompts(questions, tokenizer, manifest.prompt, manifest.template, tail)


def write_bundle(
    checkpoint: Path, method: Method, prompts: CalibrationPrompts, bundle: Path
) -> float:
    """Write a bundle in place of any other there.

    Returns:
        Seconds of processor time that calibrating and rounding took.
    """
    started = time.process_time()
    source, blocks = round_model(Checkpoint.open(checkpoint), method, prompts)
    seconds = time.process_time() - started
    export(source, "int4", bundle)
    replace_blocks(bundle, blocks)
    return seconds


def export(source: TensorSource, quant: str, bundle: Path) -> None:
    """Export in place of any other bundle."""
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir(parents=True)
    settings = ExportSettings(find_recipe(quant), load_template("mcq"))
    for _ in Export(source, Origin("tiny"), settings, bundle).steps():
        pass


def round_model(
    source: TensorSource, method: Method, prompts: CalibrationPrompts
) -> tuple[TensorSource, Mapping[str, QuantizedBlocks]]:
    """Round every matrix and the embedding.

    Returns:
        The checkpoint that was rounded, scaled if the method scales, and the blocks by the
        matrix's name.
    """
    if method.scale:
        source = method.scale(source, prompts, FORM)
    config, blocks = source.config, {}
    inputs: Mapping[str, Float32] = {}
    layers = layer_inputs(source, prompts) if method.calibrated else repeat(inputs)
    for index, inputs in zip(range(config.num_hidden_layers), layers, strict=False):
        for channels in layer_channels(config, index):
            sample = InputSample(inputs.get(channels.matrix, _no_rows(source, channels.readers[0])))
            quantize = method.layers(sample)
            parts = [quantize(source.tensor(reader)) for reader in channels.readers]
            blocks[channels.matrix] = _joined(parts)
    sample = InputSample(inputs.get("logits", _no_rows(source, EMBEDDING)), _TIED_DAMPING)
    blocks["embed_tokens"] = method.embedding(sample)(source.tensor(EMBEDDING))
    return source, blocks


def replace_blocks(bundle: Path, blocks: Mapping[str, QuantizedBlocks]) -> None:
    """Write other blocks over those of a bundle, which have the same format and so the same size.

    Raises:
        ValueError: Blocks have another size, or the bundle lacks a matrix.
    """
    graph, weights = bundle / GRAPH_FILE, bundle / f"{GRAPH_FILE}.data"
    model = onnx.load_model(graph, load_external_data=False)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    with weights.open("r+b") as file:
        for matrix, quantized in blocks.items():
            for kind, values in _stored(quantized).items():
                name = f"{matrix}.{kind}"
                if name not in tensors:
                    raise ValueError(f"{name}: must be a weight of {graph}, is not")
                _overwrite(tensors[name], np.ascontiguousarray(values).tobytes(), file)
    onnx.save_model(model, graph)
    manifest = Manifest.load(bundle)
    changed = {path.name: file_info(path) for path in (graph, weights)}
    replace(manifest, files={**manifest.files, **changed}).save(bundle)


def _stored(blocks: QuantizedBlocks) -> dict[str, npt.NDArray[np.generic]]:
    parts: dict[str, npt.NDArray[np.generic]]
    parts = {"weight": blocks.packed, "scales": blocks.scales}
    return parts if blocks.zero_points is None else {**parts, "zero_points": blocks.zero_points}


def _overwrite(tensor: onnx.TensorProto, data: bytes, weights: BinaryIO) -> None:
    """Replace a tensor's bytes, in the model or in the file of the external ones."""
    place = {entry.key: entry.value for entry in tensor.external_data}
    held = int(place["length"]) if place else len(tensor.raw_data)
    if len(data) != held:
        raise ValueError(f"{tensor.name}: must have {held} bytes, has {len(data)}")
    if place:
        weights.seek(int(place["offset"]))
        weights.write(data)
    else:
        tensor.raw_data = data


def _no_rows(source: TensorSource, tensor: str) -> Float32:
    return np.zeros((0, source.shape(tensor)[1]), np.float32)


def _joined(parts: Sequence[QuantizedBlocks]) -> QuantizedBlocks:
    zero_points = [part.zero_points for part in parts if part.zero_points is not None]
    return QuantizedBlocks(
        np.concatenate([part.packed for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate(zero_points) if zero_points else None,
    )
