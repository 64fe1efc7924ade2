"""Recipes: named ways to store the weights of a model."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from foggen_runtime.bundle.manifest import WeightFormat
from foggen_runtime.errors import CheckpointError, ConfigError

BLOCK_SIZES = (32, 64, 128)
EMBEDDING_GROUP = "embedding"


@dataclass(frozen=True)
class Recipe:
    """A named quantization: how the layers' matrices and the embedding are stored.

    A tied output head shares the embedding's bytes; an untied one has its format. Where blocks do
    not divide a matrix, it gets smaller ones (`fitted`).

    Attributes:
        smoothing: Whether outliers move from activations into weights first.
        error_feedback: Whether weights are rounded by what their errors do to calibration prompts.
        finer: The format of matrices and embedding where the usual one harms the decision more than
            the bytes are worth; None if all have the same format.
        matrices: The formats of single matrices, e.g. `layers.0.o_proj`, that differ from `layers`.
    """

    name: str
    layers: WeightFormat
    embedding: WeightFormat
    smoothing: bool = False
    error_feedback: bool = False
    finer: WeightFormat | None = None
    matrices: Mapping[str, WeightFormat] = field(default_factory=dict)

    @property
    def calibrated(self) -> bool:
        """Whether the recipe needs activations."""
        return self.smoothing or self.error_feedback or self.finer is not None

    def groups(self, columns: Mapping[str, int], hidden_size: int) -> dict[str, WeightFormat]:
        """Return the formats by the name of the group of weights, as the manifest records them.

        Args:
            columns: The layers' matrices; those that are not stored as most are get groups of
                their own.
            hidden_size: The embedding's columns.
        """
        usual = Counter(fitted(self.layers, size) for size in columns.values())
        (layers, _), *_ = usual.most_common()
        forms = {name: self.form(name, columns[name]) for name in sorted(columns)}
        others = {name: form for name, form in forms.items() if form != layers}
        return {"layers": layers, EMBEDDING_GROUP: fitted(self.embedding, hidden_size), **others}

    def form(self, matrix: str, columns: int) -> WeightFormat:
        """Return the format of one of the layers' matrices.

        Raises:
            CheckpointError: No blocks divide it.
        """
        return fitted(self.matrices.get(matrix, self.layers), columns, matrix)

    def with_blocks(self, block_size: int | None, symmetric: bool) -> Self:
        """Return the recipe with other 4-bit blocks.

        Args:
            block_size: Weights per scale, also in the recipe's 8-bit blocks; None leaves it
                unchanged.
            symmetric: Whether to leave out the zero points.

        Raises:
            ConfigError: The recipe has no 4-bit blocks, or the size is not one of `BLOCK_SIZES`.
        """
        if block_size is None and not symmetric:
            return self
        if self.layers.bits != 4:
            option = "symmetric" if block_size is None else "block_size"
            raise ConfigError(f"{option}: {self.name} has no 4-bit blocks, leave it out")
        if block_size not in (None, *BLOCK_SIZES):
            sizes = ", ".join(map(str, BLOCK_SIZES))
            raise ConfigError(f"block_size: must be one of {sizes}, is {block_size}")
        size = block_size or self.layers.block_size
        layers, embedding = (
            replace(form, block_size=size, symmetric=symmetric or form.symmetric)
            for form in (self.layers, self.embedding)
        )
        finer = replace(self.finer, block_size=size) if self.finer else None
        return replace(self, layers=layers, embedding=embedding, finer=finer)

    def with_finer(self, groups: frozenset[str]) -> Self:
        """Return the recipe with the finer format for some matrices, or for the embedding."""
        if self.finer is None:
            raise ValueError(f"finer: {self.name} has no finer format")
        matrices = dict.fromkeys(sorted(groups - {EMBEDDING_GROUP}), self.finer)
        embedding = self.finer if EMBEDDING_GROUP in groups else self.embedding
        return replace(self, embedding=embedding, matrices=matrices)


_FULL = WeightFormat(bits=32)
_INT8 = WeightFormat(bits=8, symmetric=True, activation_bits=8)
_INT8_BLOCKS = WeightFormat(bits=8, block_size=128, symmetric=True, accuracy_level=4)
_INT4 = WeightFormat(bits=4, block_size=128, symmetric=False, accuracy_level=4)
_INT4_GPTQ = Recipe("int4-gptq", layers=_INT4, embedding=_INT4, smoothing=True, error_feedback=True)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", layers=_FULL, embedding=_FULL),
        Recipe("int8", layers=_INT8, embedding=_INT8_BLOCKS, smoothing=True),
        Recipe("int8-weight", layers=_INT8_BLOCKS, embedding=_INT8_BLOCKS),
        Recipe("int4", layers=_INT4, embedding=_INT4),
        _INT4_GPTQ,
        replace(_INT4_GPTQ, name="int4-mixed", finer=_INT8_BLOCKS),
    )
}


def fitted(form: WeightFormat, columns: int, matrix: str = EMBEDDING_GROUP) -> WeightFormat:
    """Return a format with the largest blocks, no larger than its own, that divide a matrix.

    Args:
        form: The format that is asked for.
        columns: How many the matrix has.
        matrix: What messages call it.

    Raises:
        CheckpointError: None do.
    """
    if form.block_size is None or columns % form.block_size == 0:
        return form
    for size in sorted(BLOCK_SIZES, reverse=True):
        if size < form.block_size and columns % size == 0:
            return replace(form, block_size=size)
    raise CheckpointError(
        f"{matrix}: input size must be a multiple of {min(BLOCK_SIZES)}, the smallest block, is "
        f"{columns}; choose a recipe without blocks"
    )


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        ConfigError: There is no such recipe.
    """
    if name not in RECIPES:
        raise ConfigError(f"quant: must be one of {', '.join(RECIPES)}, is {name!r}")
    return RECIPES[name]
