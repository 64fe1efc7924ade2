"""Qwen3 as an ONNX graph.

Follows `modeling_qwen3.py` of transformers: pre-norm decoder layers, RMS norm on each head's
queries and keys before the rotary embedding, grouped-query attention, SwiGLU, no biases.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from foggen_exporter.architectures.qwen3_config import Qwen3Config
from foggen_exporter.graphs.builder import MICROSOFT, GraphBuilder, tensor_info
from foggen_exporter.graphs.integer_matmul import integer_product, quantize_rows, scale_rows
from foggen_exporter.graphs.matmul import (
    emit_embedding,
    emit_head,
    emit_matmul,
    emit_stored_matmul,
    store_embedding,
)
from foggen_exporter.graphs.matrix import Matrix
from foggen_exporter.recipes.block_quantization import Float32
from foggen_exporter.recipes.error_feedback import InputSample
from foggen_exporter.recipes.recipe import Recipe
from foggen_exporter.weights.checkpoint import EMBEDDING, LM_HEAD, TensorSource
from foggen_exporter.weights.row_chunks import RowChunks, SingleRows

# The embedding's rows are also read as they are: an error there counts for any input of the head.
_TIED_DAMPING = 0.3
TAIL_START = "tail_start"  # the initializer that says how many last rows go on
_PAST = ("past_key_values", "past_sequence_length")
_PRESENT = ("present", "present_sequence_length")


@dataclass(frozen=True)
class Qwen3Graph:
    """Emits the parts of a Qwen3 model into a graph.

    Attributes:
        positions: How many positions the rotary tables hold: the context length.
        tail: How many last positions of a chunk get logits.
        inputs: Rows that matrices are multiplied with in calibration, by the matrix's name; the
            output head's is `logits`.
        head_ids: The only tokens that get logits, in this order; None for all.
    """

    source: TensorSource
    recipe: Recipe
    positions: int
    tail: int
    inputs: Mapping[str, Float32] = field(default_factory=dict)
    head_ids: tuple[int, ...] | None = None

    @property
    def config(self) -> Qwen3Config:
        """The checkpoint's configuration."""
        return self.source.config

    def emit(
        self, g: GraphBuilder, layer_inputs: Iterable[Mapping[str, Float32]] = ()
    ) -> Iterator[str]:
        """Emit the whole model, `input_ids` and `attention_mask` to `logits`.

        Args:
            g: The graph.
            layer_inputs: The `inputs` of each layer, the head's with the last; none leaves the
                rounding to the weights alone.

        Yields:
            The name of each part before it is emitted: the embedding, the layers, the head.
        """
        yield "embedding"
        self._emit_lengths(g)
        embedding = self._matrix("embed_tokens", [EMBEDDING])
        residual = emit_embedding(g, "input_ids", embedding, self.recipe.embedding)
        normed = self._norm(g, residual, "layers.0.input", "layers.0.input_layernorm")
        layers, calibrated = iter(layer_inputs), self
        for index in range(self.config.num_hidden_layers):
            yield f"layer {index}"
            calibrated = self  # the last layer's inputs go before the next one's come
            calibrated = replace(self, inputs=next(layers, {}))
            normed, residual = calibrated._layer(g, index, (normed, residual))
        yield "head"
        calibrated._head(g, normed, embedding)

    def _head(self, g: GraphBuilder, normed: str, embedding: Matrix) -> None:
        """Emit the output head, and store the embedding."""
        form, rows = self.recipe.embedding, self.inputs.get("logits")
        tied = self.source.lm_head == "tied"
        sample = InputSample(rows, _TIED_DAMPING) if tied and rows is not None else None
        blocks = store_embedding(g, replace(embedding, sample=sample), form)
        if self.head_ids is not None:
            shape = (len(self.head_ids), embedding.shape[1])
            chunks = SingleRows(self.source, LM_HEAD, self.head_ids)
            head = Matrix("logits", shape, chunks, _sample(rows))
            if tied and blocks:
                emit_stored_matmul(g, normed, head, form, blocks.rows(self.head_ids))
            else:
                emit_matmul(g, normed, head, form)
        elif tied:
            emit_head(g, normed, embedding, form, "logits")
        else:
            head = self._matrix("logits", [LM_HEAD])
            store_embedding(g, head, form)
            emit_head(g, normed, head, form, "logits")

    def emit_single_layer(self, g: GraphBuilder, index: int) -> tuple[str, str]:
        """Emit one decoder layer from its input `hidden`.

        Returns:
            The names of the next layer's normed input, and of the residual stream: its `hidden`.
        """
        self._emit_lengths(g)
        normed = self._norm(g, "hidden", f"layers.{index}.input", f"layers.{index}.input_layernorm")
        return self._layer(g, index, (normed, "hidden"))

    def _emit_lengths(self, g: GraphBuilder) -> None:
        """Derive what attention needs from the mask, and add the rotary tables."""
        one = g.constant("one", [1], np.int64)
        total = g.op("ReduceSum", ["attention_mask", one], "mask_total", {"keepdims": 0})
        g.op("Cast", [g.op("Sub", [total, one], "mask_last")], "seqlens_k", {"to": 6})
        length = g.op("Shape", ["attention_mask"], "mask_length", {"start": 1})
        scalar = g.op("Squeeze", [length], "mask_length_scalar")
        g.op("Cast", [scalar], "total_sequence_length", {"to": 6})
        cosines, sines = rotary_tables(self.config, self.positions)
        g.weight("rotary_cos", cosines)
        g.weight("rotary_sin", sines)

    def _layer(self, g: GraphBuilder, index: int, states: tuple[str, str]) -> tuple[str, str]:
        """Emit one decoder layer, and the norm that follows it.

        Only the tail's rows of the last layer go on after attention: nothing else is read.

        Args:
            g: The graph.
            index: Which layer.
            states: The normed hidden states the layer starts from, and the residual stream.

        Returns:
            The same two, after the layer.
        """
        name = f"layers.{index}"
        last = index == self.config.num_hidden_layers - 1
        normed, residual = states
        attended = self._attention(g, index, normed)
        if last:
            attended = self._tail(g, attended, f"{name}.attention_tail")
            residual = self._tail(g, residual, f"{name}.residual_tail")
        product = self._linear(g, attended, f"{name}.o_proj", f"{name}.self_attn.o_proj")
        normed, residual = self._add_norm(
            g, (product, residual), f"{name}.middle", f"{name}.post_attention_layernorm"
        )
        product = self._mlp(g, index, normed)
        following = "norm" if last else f"layers.{index + 1}.input_layernorm"
        return self._add_norm(g, (product, residual), f"{name}.output", following)

    def _attention(self, g: GraphBuilder, index: int, normed: str) -> str:
        """Emit attention, its output projection left out.

        Scales of queries and keys cancel in their norms: an epsilon of 1e-6 beside mean squares
        of about 1 is too little to tell.
        """
        config, name = self.config, f"layers.{index}"
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        projections = [f"{name}.self_attn.{part}_proj" for part in "qkv"]
        (query, key, value), scales = self._products(g, normed, f"{name}.qkv_proj", projections)
        past = [f"past_key_values.{index}.{part}" for part in ("key", "value")]
        inputs = [
            self._head_norm(g, query, heads, f"{name}.self_attn.q_norm"),
            self._head_norm(g, key, kv_heads, f"{name}.self_attn.k_norm"),
            scale_rows(g, value, scales, f"{name}.value"),
            *past,
            "seqlens_k",
            "total_sequence_length",
            "rotary_cos",
            "rotary_sin",
        ]
        present = [f"present.{index}.{part}" for part in ("key", "value")]
        attributes = {"num_heads": heads, "kv_num_heads": kv_heads, "do_rotary": 1}
        outputs = [f"{name}.attention", *present]
        return g.op("GroupQueryAttention", inputs, outputs, attributes, MICROSOFT)

    def _head_norm(self, g: GraphBuilder, x: str, heads: int, tensor: str) -> str:
        size = self.config.head_dim
        by_head = g.constant(f"by_head_{heads}", [0, 0, heads, size], np.int64)
        flat = g.constant(f"flat_{heads}", [0, 0, heads * size], np.int64)
        split = g.op("Reshape", [x, by_head], f"{x}.by_head")
        normed = self._norm(g, split, f"{x}.normed", tensor)
        return g.op("Reshape", [normed, flat], f"{x}.flat")

    def _mlp(self, g: GraphBuilder, index: int, normed: str) -> str:
        """Emit the MLP. A scale of `up` goes through to the end: all between is linear in it."""
        name = f"layers.{index}"
        parts = [f"{name}.mlp.gate_proj", f"{name}.mlp.up_proj"]
        (gate, up), scales = self._products(g, normed, f"{name}.gate_up_proj", parts)
        gate = scale_rows(g, gate, scales, f"{name}.gate")
        active = g.op("QuickGelu", [gate], f"{name}.silu", {"alpha": 1.0}, MICROSOFT)
        gated = g.op("Mul", [active, up], f"{name}.gated")
        return self._linear(g, gated, f"{name}.down_proj", f"{name}.mlp.down_proj", scales)

    def _linear(
        self, g: GraphBuilder, x: str, name: str, tensor: str, scales: Sequence[str] = ()
    ) -> str:
        """Multiply with one matrix, and with scales that the rows of `x` lack."""
        (product,), own_scales = self._products(g, x, name, [tensor])
        return scale_rows(g, product, [*own_scales, *scales], name)

    def _products(
        self, g: GraphBuilder, x: str, name: str, tensors: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """Multiply with matrices that have their input in common.

        Returns:
            The names of the products, and of the scales that their rows lack.
        """
        form = self.recipe.form(name)
        weights = [f"model.{tensor}.weight" for tensor in tensors]
        if form.activation_bits is not None:
            rows = quantize_rows(g, x, name)
            pairs = zip(tensors, weights, strict=True)
            matrices = [self._matrix(tensor, [weight]) for tensor, weight in pairs]
            return [integer_product(g, rows, matrix) for matrix in matrices], [rows.scales]
        packed = emit_matmul(g, x, self._matrix(name, weights), form)
        if len(tensors) == 1:
            return [packed], []
        sizes = [self.source.shape(weight)[0] for weight in weights]
        split = g.constant("sizes_" + "_".join(map(str, sizes)), sizes, np.int64)
        products = [f"{tensor}.product" for tensor in tensors]
        g.op("Split", [packed, split], products, {"axis": -1})
        return products, []

    def _norm(self, g: GraphBuilder, x: str, output: str, tensor: str) -> str:
        attributes = {"axis": -1, "epsilon": self.config.rms_norm_eps, "stash_type": 1}
        gain = g.weight(f"{tensor}.weight", self.source.tensor(f"model.{tensor}.weight"))
        return g.op("SimplifiedLayerNormalization", [x, gain], output, attributes)

    def _add_norm(
        self, g: GraphBuilder, terms: tuple[str, str], output: str, tensor: str
    ) -> tuple[str, str]:
        gain = g.weight(f"{tensor}.weight", self.source.tensor(f"model.{tensor}.weight"))
        outputs = [output, "", "", f"{output}.sum"]
        attributes = {"epsilon": self.config.rms_norm_eps}
        inputs = [*terms, gain]
        g.op("SkipSimplifiedLayerNormalization", inputs, outputs, attributes, MICROSOFT)
        return output, f"{output}.sum"

    def _tail(self, g: GraphBuilder, x: str, output: str) -> str:
        start = g.constant(TAIL_START, [-self.tail], np.int64)
        end = g.constant("tail_end", [np.iinfo(np.int64).max], np.int64)
        return g.op("Slice", [x, start, end, g.constant("one", [1], np.int64)], output)

    def _matrix(self, name: str, tensors: Sequence[str]) -> Matrix:
        """Describe tensors one below the other as one matrix."""
        shapes = [self.source.shape(tensor) for tensor in tensors]
        rows, columns = sum(shape[0] for shape in shapes), shapes[0][1]
        chunks = RowChunks(self.source, tuple(tensors))
        return Matrix(name, (rows, columns), chunks, _sample(self.inputs.get(name)))


def _sample(rows: Float32 | None) -> InputSample | None:
    return None if rows is None else InputSample(rows)


def rotary_tables(config: Qwen3Config, positions: int) -> tuple[Float32, Float32]:
    """Return cosines and sines of the rotary angles, each (positions, head_dim // 2).

    In float32 throughout, as transformers computes them: position / theta^(2i / head_dim).
    """
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = np.float32(1) / np.power(np.float32(config.rope_theta), exponents)
    angles = np.arange(positions, dtype=np.float32)[:, None] * frequencies
    return np.cos(angles), np.sin(angles)


def graph_inputs(config: Qwen3Config) -> list[onnx.ValueInfoProto]:
    """Describe the inputs, named as Hugging Face's ONNX exports name them."""
    return [
        tensor_info("input_ids", np.int64, [1, "sequence_length"]),
        tensor_info("attention_mask", np.int64, [1, "total_sequence_length"]),
        *_cache_infos(config, *_PAST),
    ]


def graph_outputs(
    config: Qwen3Config, head_ids: tuple[int, ...] | None = None
) -> list[onnx.ValueInfoProto]:
    """Describe the outputs, `logits` first, of all tokens or only of some."""
    size = config.vocab_size if head_ids is None else len(head_ids)
    logits: list[int | str] = [1, "tail_length", size]
    return [
        tensor_info("logits", np.float32, logits),
        *_cache_infos(config, *_PRESENT),
    ]


def layer_infos(
    config: Qwen3Config, index: int, output: str
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


def _cache_infos(config: Qwen3Config, prefix: str, length: str) -> list[onnx.ValueInfoProto]:
    return [
        info
        for index in range(config.num_hidden_layers)
        for info in _layer_cache_infos(config, index, prefix, length)
    ]


def _layer_cache_infos(
    config: Qwen3Config, index: int, prefix: str, length: str
) -> list[onnx.ValueInfoProto]:
    shape: list[int | str] = [1, config.num_key_value_heads, length, config.head_dim]
    names = (f"{prefix}.{index}.key", f"{prefix}.{index}.value")
    return [tensor_info(name, np.float32, shape) for name in names]
