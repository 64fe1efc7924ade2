"""Graphs written by optimum: reading their inputs and outputs, and storing their weights again."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from foggen_exporter.graphs.builder import MICROSOFT, GraphBuilder, WeightFile
from foggen_exporter.graphs.matmul import emit_matmul
from foggen_exporter.graphs.matrix import Matrix
from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.manifest import WeightFormat
from foggen_runtime.errors import CheckpointError

_PRODUCTS = ("MatMul", "Gemm")
_PLAIN_INPUTS = ("input_ids", "attention_mask", "position_ids")


@dataclass(frozen=True)
class GraphShape:
    """What a graph's inputs and outputs say about the model.

    Attributes:
        position_ids: Whether the tokens' positions are an input.
    """

    num_hidden_layers: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    position_ids: bool

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Self:
        """Read a graph.

        Raises:
            CheckpointError: It is not a decoder with a plain KV cache: keys and values of every
                layer, (batch, heads, tokens, head_dim), all of one shape.
        """
        inputs = {value.name: _dimensions(value) for value in model.graph.input}
        outputs = {value.name: _dimensions(value) for value in model.graph.output}
        caches = {name: shape for name, shape in inputs.items() if name not in _PLAIN_INPUTS}
        layers = len(caches) // 2
        expected = {
            f"past_key_values.{i}.{part}" for i in range(layers) for part in ("key", "value")
        }
        if not caches or set(caches) != expected:
            raise CheckpointError(
                "graph: inputs must be tokens, mask, positions and past_key_values.N.key and "
                f".value, are {', '.join(inputs)}"
            )
        shapes = {shape[1::2] if len(shape) == 4 else (0, 0) for shape in caches.values()}
        heads, head_dim = shapes.pop()
        if shapes or not (heads and head_dim):
            raise CheckpointError(
                "graph: past keys and values must all be (batch, heads, tokens, head_dim) of one "
                f"size, past_key_values.0.key is {caches['past_key_values.0.key']}"
            )
        logits = outputs.get("logits", ())
        if len(logits) != 3 or not logits[-1]:
            raise CheckpointError(
                "graph: logits must be an output (batch, tokens, vocabulary), outputs are "
                f"{', '.join(outputs)}"
            )
        return cls(layers, heads, head_dim, logits[-1], "position_ids" in inputs)


def check_blocks(name: str, columns: int, block_size: int) -> None:
    """Check that blocks divide a matrix's columns: one format is for all of a traced graph.

    Raises:
        CheckpointError: They do not.
    """
    if columns % block_size:
        raise CheckpointError(
            f"{name}: input size must be a multiple of the block size {block_size}, is {columns}; "
            "choose a smaller --block-size, or a recipe without blocks"
        )


def store_graph(source: Path, target: Path, form: WeightFormat) -> None:
    """Write a graph again, with its weights in one file next to it, named after it.

    Args:
        source: optimum's.
        target: Where to write.
        form: How to store the weights of matrix products; all others stay floating point.

    Raises:
        CheckpointError: The format's blocks do not divide a matrix's columns, or the weights of a
            product are not one matrix.
    """
    model = onnx.load_model(source, load_external_data=False)
    graph = model.graph
    with WeightFile(target.with_name(f"{target.name}.data")) as weights:
        g = GraphBuilder(weights)
        initializers = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            is_product = node.op_type in _PRODUCTS and node.input[1] in initializers
            if is_product and form.block_size is not None:
                matrix = _matrix(node, initializers[node.input[1]], source.parent)
                check_blocks(matrix.name, matrix.shape[1], form.block_size)
                emit_matmul(g, node.input[0], matrix, form)
            else:
                g.nodes.append(node)
        used = {name for node in g.nodes for name in node.input}
        for name in [name for name in initializers if name in used]:
            g.weight(name, numpy_helper.to_array(initializers[name], str(source.parent)))
    stored = list(g.initializers.values())
    model.graph.CopyFrom(helper.make_graph(g.nodes, graph.name, graph.input, graph.output, stored))
    if all(opset.domain != MICROSOFT for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    onnx.save_model(model, target)


def _matrix(node: onnx.NodeProto, weight: TensorProto, directory: Path) -> Matrix:
    """Return a product's weight, stored (inputs, outputs), as (outputs, inputs)."""
    if node.op_type != "MatMul" or len(weight.dims) != 2:
        raise CheckpointError(
            "graph: to be quantized, weights must be matrices of MatMul, those of "
            f"{node.name} are {list(weight.dims)} of {node.op_type}; export it in fp32"
        )
    columns, rows = weight.dims
    return Matrix(node.output[0], (rows, columns), partial(_transposed, weight, directory))


def _transposed(weight: TensorProto, directory: Path) -> Iterator[Float32]:
    yield np.ascontiguousarray(numpy_helper.to_array(weight, str(directory)).T)


def _dimensions(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return a tensor's shape, 0 where a dimension is not fixed."""
    return tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
