"""What layers of all families are made of: the words that a family's `layer` is written in.

Where activations are rounded, a product's rows still lack their scales (`integer_matmul.py`). Such
a `Product` is no name of a tensor, so that nobody takes one for the other: `scaled` multiplies the
scales in, and where they cancel, or may come later, the word for it says why.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from foggen_exporter.architectures.config import DecoderConfig
from foggen_exporter.graphs.builder import MICROSOFT, TAIL_START, Attributes, GraphBuilder
from foggen_exporter.graphs.integer_matmul import integer_product, quantize_rows, scale_rows
from foggen_exporter.graphs.matmul import emit_matmul
from foggen_exporter.graphs.matrix import Matrix, Shape
from foggen_exporter.recipes.error_feedback import InputSample
from foggen_exporter.recipes.recipe import Recipe
from foggen_runtime.arrays import Float32

States = tuple[str, str]  # what a layer starts from: normed hidden states, and the residual stream


class Weights(Protocol):
    """A model's shape, and where its weights are read from."""

    @property
    def config(self) -> DecoderConfig:
        """The model's shape."""

    def tensor(self, name: str) -> Float32:
        """Read a whole tensor."""

    def chunks(self, names: Sequence[str]) -> Iterator[Float32]:
        """Read matrices one below the other, some rows at a time."""


@dataclass(frozen=True)
class Product:
    """The name of a product, and those of the scales that its rows lack, each (rows, 1)."""

    values: str
    scales: tuple[str, ...]


@dataclass(frozen=True)
class Attention:
    """How queries meet keys.

    Attributes:
        window: How many last positions a token sees, itself among them; None for all.
        scale: What scores are multiplied with; None for 1 / sqrt(head_dim).
        rotary: The family's rotary tables that turn both.
    """

    window: int | None = None
    scale: float | None = None
    rotary: str = "rotary"

    @property
    def attributes(self) -> dict[str, int | float | str]:
        """Those of GroupQueryAttention."""
        found: dict[str, int | float | str] = {"do_rotary": 1}
        if self.window is not None:
            found["local_window_size"] = self.window
        if self.scale is not None:
            found["scale"] = self.scale
        return found


@dataclass(frozen=True)
class LayerGraph:
    """Emits one layer, part by part.

    Names of matrices, tensors and outputs are those inside the layer.

    Attributes:
        weights: The model.
        recipe: How its weights are stored.
        index: Which layer.
        tail_rows: How many last rows go on after attention in the last layer.
        inputs: Rows that matrices are multiplied with in calibration, by the matrix's name in the
            graph.
        read: Filled with what each matrix is multiplied with, by the matrix's name in the graph.
    """

    g: GraphBuilder
    weights: Weights
    recipe: Recipe
    index: int
    tail_rows: int
    inputs: Mapping[str, Float32]
    read: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The layer's name, with which all names in the graph begin."""
        return f"layers.{self.index}"

    @property
    def is_last(self) -> bool:
        """Whether no layer follows."""
        return self.index == self.weights.config.num_hidden_layers - 1

    def op(
        self, kind: str, inputs: Sequence[str], output: str, attributes: Attributes | None = None
    ) -> str:
        """Add a node of ONNX's own, named by its output."""
        return self.g.op(kind, inputs, f"{self.name}.{output}", attributes)

    def vector(self, tensor: str) -> str:
        """Add a tensor that is no matrix, e.g. a bias."""
        return add_vector(self.g, self.weights, f"{self.name}.{tensor}")

    def linear(self, x: str | Product, matrix: str) -> str:
        """Multiply with a matrix of one tensor."""
        (product,) = self.products(x, matrix)
        return self.scaled(product, matrix)

    def products(self, x: str | Product, matrix: str) -> list[Product]:
        """Multiply with the tensors of a matrix, which have their input in common.

        The scales that `x` lacks, its products lack too: a product is linear in each row.
        """
        x, lacking = (x.values, x.scales) if isinstance(x, Product) else (x, ())
        name = f"{self.name}.{matrix}"
        self.read[name] = x
        shapes = self.weights.config.parts(matrix)
        parts = {f"{self.name}.{part}": shape for part, shape in shapes.items()}
        (_, columns), *_ = shapes.values()
        form = self.recipe.form(name, columns)
        if form.activation_bits is not None:
            rows = quantize_rows(self.g, x, name)
            singles = [self._matrix(part, {part: shape}) for part, shape in parts.items()]
            outputs = [integer_product(self.g, rows, single) for single in singles]
            return [Product(output, (rows.scales, *lacking)) for output in outputs]
        outputs = [emit_matmul(self.g, x, self._matrix(name, parts), form)]
        if len(parts) > 1:
            sizes = {f"{part}.product": rows for part, (rows, _) in parts.items()}
            outputs = self.g.split(outputs[0], sizes)
        return [Product(output, lacking) for output in outputs]

    def scaled(self, product: Product, output: str) -> str:
        """Multiply the rows of a product with the scales that they lack, if any."""
        if not product.scales:
            return product.values
        return scale_rows(self.g, product.values, product.scales, f"{self.name}.{output}")

    def biased(self, product: Product, output: str, tensor: str) -> str:
        """Add a bias to the rows of a product, whose scales are not the bias's."""
        bias = self.vector(f"{tensor}.bias")
        return self.op("Add", [self.scaled(product, output), bias], f"{output}.biased")

    def times(self, x: str, product: Product, output: str) -> Product:
        """Multiply with a product, value by value; what its rows lack, the result's lack."""
        gated = self.op("Mul", [x, product.values], output)
        return Product(gated, product.scales)

    def silu(self, x: str) -> str:
        """Apply x * sigmoid(x): QuickGelu is x * sigmoid(alpha * x), so it is SiLU in one node."""
        return self.g.op("QuickGelu", [x], f"{self.name}.silu", {"alpha": 1.0}, MICROSOFT)

    def norm(self, x: str, output: str, tensor: str) -> str:
        """Divide rows by their root mean square, and multiply with gains."""
        return self._norm(x, f"{self.name}.{output}", tensor)

    def head_norm(self, product: Product, heads: int, tensor: str) -> str:
        """Norm each head of a product.

        Scales of rows cancel: an epsilon of 1e-6 beside mean squares of about 1 is too little to
        tell.
        """
        x, size = product.values, self.weights.config.head_dim
        by_head = self.g.constant(f"by_head_{heads}", [0, 0, heads, size], np.int64)
        flat = self.g.constant(f"flat_{heads}", [0, 0, heads * size], np.int64)
        split = self.g.op("Reshape", [x, by_head], f"{x}.by_head")
        normed = self._norm(split, f"{x}.normed", tensor)
        return self.g.op("Reshape", [normed, flat], f"{x}.flat")

    def add_norm(self, term: str, residual: str, output: str, tensor: str) -> States:
        """Add to the residual stream, and norm it."""
        return self._add_norm((term, residual), output, f"{self.name}.{tensor}")

    def next_norm(self, term: str, residual: str) -> States:
        """Add to the residual stream, and norm it as the next layer, or the output head, wants."""
        following = "norm" if self.is_last else f"layers.{self.index + 1}.input_layernorm"
        return self._add_norm((term, residual), "output", following)

    def attend(self, query: str, key: str, value: str, how: Attention = Attention()) -> str:
        """Let queries attend to keys and values, past ones too, turned by their positions."""
        config = self.weights.config
        past, present = (
            [f"{cache}.{self.index}.{part}" for part in ("key", "value")]
            for cache in ("past_key_values", "present")
        )
        lengths = ["seqlens_k", "total_sequence_length"]
        tables = [f"{how.rotary}_cos", f"{how.rotary}_sin"]
        heads = {
            "num_heads": config.num_attention_heads,
            "kv_num_heads": config.num_key_value_heads,
        }
        return self.g.op(
            "GroupQueryAttention",
            [query, key, value, *past, *lengths, *tables],
            [f"{self.name}.attention", *present],
            heads | how.attributes,
            MICROSOFT,
        )

    def tail(self, attended: str, residual: str) -> States:
        """In the last layer, let only the tail's rows go on: nothing else is read."""
        if not self.is_last:
            return attended, residual
        start = self.g.constant(TAIL_START, [-self.tail_rows], np.int64)
        end = self.g.constant("tail_end", [np.iinfo(np.int64).max], np.int64)
        one = self.g.constant("one", [1], np.int64)
        cut = (("attention_tail", attended), ("residual_tail", residual))
        attended, residual = (self.op("Slice", [x, start, end, one], name) for name, x in cut)
        return attended, residual

    def _matrix(self, name: str, parts: Mapping[str, Shape]) -> Matrix:
        """Describe tensors one below the other as one matrix."""
        names = [f"model.{part}.weight" for part in parts]
        rows = self.inputs.get(name)
        sample = None if rows is None else InputSample(rows)
        chunks = partial(self.weights.chunks, names)
        return Matrix.stacked(name, list(parts.values()), chunks, sample)

    def _norm(self, x: str, output: str, tensor: str) -> str:
        gain, epsilon = self.vector(f"{tensor}.weight"), self.weights.config.rms_norm_eps
        attributes = {"axis": -1, "epsilon": epsilon, "stash_type": 1}
        return self.g.op("SimplifiedLayerNormalization", [x, gain], output, attributes)

    def _add_norm(self, terms: tuple[str, str], output: str, tensor: str) -> States:
        gain = add_vector(self.g, self.weights, f"{tensor}.weight")
        normed, total = f"{self.name}.{output}", f"{self.name}.{output}.sum"
        attributes = {"epsilon": self.weights.config.rms_norm_eps}
        outputs = [normed, "", "", total]
        inputs = [*terms, gain]
        self.g.op("SkipSimplifiedLayerNormalization", inputs, outputs, attributes, MICROSOFT)
        return normed, total


def add_vector(g: GraphBuilder, weights: Weights, tensor: str) -> str:
    """Add a tensor that is no matrix, by its name in the graph."""
    return g.weight(tensor, weights.tensor(f"model.{tensor}"))
