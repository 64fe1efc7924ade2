"""A decoder-only language model as an ONNX graph, whatever the family of its layers."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx

from foggen_exporter.architectures.config import EMBEDDING, LM_HEAD, DecoderConfig
from foggen_exporter.architectures.layer_graph import LayerGraph, States, Weights
from foggen_exporter.graphs.builder import GraphBuilder, tensor_info
from foggen_exporter.graphs.matmul import (
    emit_embedding,
    emit_head,
    emit_matmul,
    emit_stored_matmul,
    store_embedding,
)
from foggen_exporter.graphs.matrix import Matrix
from foggen_exporter.recipes.error_feedback import InputSample
from foggen_exporter.recipes.recipe import Recipe, fitted
from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.manifest import WeightFormat

# The embedding's rows are also read as they are: an error there counts for any input of the head.
_TIED_DAMPING = 0.3
_PAST = ("past_key_values", "past_sequence_length")
_PRESENT = ("present", "present_sequence_length")


class Decoder(DecoderConfig, ABC):
    """A model of some family: its shape, and how a layer computes."""

    @abstractmethod
    def layer(self, m: LayerGraph, states: States) -> States:
        """Emit a layer, and the norm that follows it."""


class TensorSource(Weights, Protocol):
    """What exporting reads from: a checkpoint, or one with an adapter merged into it.

    `lm_head.weight` can be read whether it is tied or not.
    """

    @property
    def directory(self) -> Path:
        """Where the tokenizer files are."""

    @property
    def architecture(self) -> str:
        """The class name in `config.json`, a key of `ARCHITECTURES`."""

    @property
    def config(self) -> Decoder:
        """The model's shape and family."""

    @property
    def tied(self) -> bool:
        """Whether the output projection's weights are the embedding's."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences to show to the user."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""

    def rows(self, name: str, start: int, stop: int) -> Float32:
        """Read rows `start` to `stop` of a tensor, along its first axis."""

    def take(self, name: str, indices: Sequence[int]) -> Float32:
        """Read single rows of a tensor, in the order of `indices`."""

    def check_finite(self) -> None:
        """Read all weights once, and check that they are finite."""

    def weights_sha256(self) -> str:
        """Hash the weights, however they are spread over files."""


@dataclass(frozen=True)
class SingleLayer:
    """Names in the graph of one layer.

    Attributes:
        normed: The next layer's normed input.
        residual: The residual stream: the next layer's `hidden`.
        read: What each matrix is multiplied with, by the matrix's name.
    """

    normed: str
    residual: str
    read: Mapping[str, str]


@dataclass(frozen=True)
class DecoderGraph:
    """Emits a model, or a layer of it, into a graph.

    Attributes:
        positions: How many positions the rotary tables hold: the context length.
        tail: How many last positions of a chunk get logits.
        head_ids: The only tokens that get logits, in this order; None for all.
    """

    source: TensorSource
    recipe: Recipe
    positions: int
    tail: int
    head_ids: tuple[int, ...] | None = None

    def emit(
        self, g: GraphBuilder, layer_inputs: Iterable[Mapping[str, Float32]] = ()
    ) -> Iterator[str]:
        """Emit the whole model, `input_ids` and `attention_mask` to `logits`.

        Args:
            g: The graph.
            layer_inputs: Rows that each layer's matrices are multiplied with in calibration, by
                the matrix's name, and with the last the output head's, `logits`; none leaves the
                rounding to the weights alone.

        Yields:
            The name of each part before it is emitted: the embedding, the layers, the head.
        """
        config, layers = self.source.config, iter(layer_inputs)
        yield "embedding"
        self._emit_lengths(g)
        embedding = self._whole("embed_tokens", EMBEDDING)
        residual = emit_embedding(g, "input_ids", embedding, self._embedding_form)
        if config.embedding_scale != 1:
            scale = g.constant("embedding_scale", config.embedding_scale, np.float32)
            residual = g.op("Mul", [residual, scale], "hidden")
        normed = self._layer(g, 0, {}).norm(residual, "input", "input_layernorm")
        inputs: Mapping[str, Float32] = {}
        for index in range(config.num_hidden_layers):
            yield f"layer {index}"
            inputs = {}  # the last layer's go before the next one's come
            inputs = next(layers, {})
            normed, residual = config.layer(self._layer(g, index, inputs), (normed, residual))
        yield "head"
        self._emit_head(g, normed, embedding, inputs.get("logits"))

    def emit_layer(self, g: GraphBuilder, index: int, inputs: Mapping[str, Float32]) -> SingleLayer:
        """Emit one layer from its input `hidden`.

        Args:
            g: The graph.
            index: Which layer.
            inputs: Rows that its matrices are multiplied with in calibration, if they are known.
        """
        self._emit_lengths(g)
        m = self._layer(g, index, inputs)
        normed = m.norm("hidden", "input", "input_layernorm")
        normed, residual = self.source.config.layer(m, (normed, "hidden"))
        return SingleLayer(normed, residual, m.read)

    @property
    def _embedding_form(self) -> WeightFormat:
        return fitted(self.recipe.embedding, self.source.config.hidden_size)

    def _layer(self, g: GraphBuilder, index: int, inputs: Mapping[str, Float32]) -> LayerGraph:
        return LayerGraph(g, self.source, self.recipe, index, self.tail, inputs)

    def _emit_lengths(self, g: GraphBuilder) -> None:
        """Derive what attention needs from the mask, and add the rotary tables."""
        one = g.constant("one", [1], np.int64)
        total = g.op("ReduceSum", ["attention_mask", one], "mask_total", {"keepdims": 0})
        g.op("Cast", [g.op("Sub", [total, one], "mask_last")], "seqlens_k", {"to": 6})
        length = g.op("Shape", ["attention_mask"], "mask_length", {"start": 1})
        scalar = g.op("Squeeze", [length], "mask_length_scalar")
        g.op("Cast", [scalar], "total_sequence_length", {"to": 6})
        for name, frequencies in self.source.config.rotary_frequencies().items():
            angles = np.arange(self.positions, dtype=np.float32)[:, None] * frequencies
            g.weight(f"{name}_cos", np.cos(angles))
            g.weight(f"{name}_sin", np.sin(angles))

    def _emit_head(
        self, g: GraphBuilder, normed: str, embedding: Matrix, rows: Float32 | None
    ) -> None:
        """Emit the output head, and store the embedding.

        Args:
            g: The graph.
            normed: What the head is multiplied with.
            embedding: The embedding.
            rows: What the head is multiplied with in calibration, if that is known.
        """
        form, tied = self._embedding_form, self.source.tied
        sample = InputSample(rows, _TIED_DAMPING) if tied and rows is not None else None
        blocks = store_embedding(g, replace(embedding, sample=sample), form)
        if self.head_ids is not None:
            head = self._some_rows("logits", self.head_ids, rows)
            if tied and blocks:
                emit_stored_matmul(g, normed, head, form, blocks.rows(self.head_ids))
            else:
                emit_matmul(g, normed, head, form)
        elif tied:
            emit_head(g, normed, embedding, form, "logits")
        else:
            head = self._whole("logits", LM_HEAD, rows)
            store_embedding(g, head, form)
            emit_head(g, normed, head, form, "logits")

    def _whole(self, name: str, tensor: str, rows: Float32 | None = None) -> Matrix:
        config = self.source.config
        shape = (config.vocab_size, config.hidden_size)
        return Matrix(name, shape, partial(self.source.chunks, [tensor]), _sample(rows))

    def _some_rows(self, name: str, ids: Sequence[int], rows: Float32 | None) -> Matrix:
        def chunks() -> Iterator[Float32]:
            yield self.source.take(LM_HEAD, ids)

        return Matrix(name, (len(ids), self.source.config.hidden_size), chunks, _sample(rows))


def _sample(rows: Float32 | None) -> InputSample | None:
    return None if rows is None else InputSample(rows)


def graph_inputs(config: DecoderConfig) -> list[onnx.ValueInfoProto]:
    """Describe the inputs, named as Hugging Face's ONNX exports name them."""
    return [
        tensor_info("input_ids", np.int64, [1, "sequence_length"]),
        tensor_info("attention_mask", np.int64, [1, "total_sequence_length"]),
        *_cache_infos(config, *_PAST),
    ]


def graph_outputs(
    config: DecoderConfig, head_ids: tuple[int, ...] | None = None
) -> list[onnx.ValueInfoProto]:
    """Describe the outputs, `logits` first, of all tokens or only of some."""
    size = config.vocab_size if head_ids is None else len(head_ids)
    logits: list[int | str] = [1, "tail_length", size]
    return [
        tensor_info("logits", np.float32, logits),
        *_cache_infos(config, *_PRESENT),
    ]


def layer_infos(
    config: DecoderConfig, index: int, output: str
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Describe the inputs and outputs of a graph of one layer."""
    hidden: list[int | str] = [1, "sequence_length", config.hidden_size]
    inputs = [
        tensor_info("hidden", np.float32, hidden),
        tensor_info("attention_mask", np.int64, [1, "total_sequence_length"]),
        *_layer_cache_infos(config, index, *_PAST),
    ]
    outputs = [
        tensor_info(output, np.float32, hidden),
        *_layer_cache_infos(config, index, *_PRESENT),
    ]
    return inputs, outputs


def _cache_infos(config: DecoderConfig, prefix: str, length: str) -> list[onnx.ValueInfoProto]:
    return [
        info
        for index in range(config.num_hidden_layers)
        for info in _layer_cache_infos(config, index, prefix, length)
    ]


def _layer_cache_infos(
    config: DecoderConfig, index: int, prefix: str, length: str
) -> list[onnx.ValueInfoProto]:
    shape: list[int | str] = [1, config.num_key_value_heads, length, config.head_dim]
    names = (f"{prefix}.{index}.key", f"{prefix}.{index}.value")
    return [tensor_info(name, np.float32, shape) for name in names]
