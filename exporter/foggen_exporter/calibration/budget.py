"""Choosing which groups of weights get more bits within a budget of bytes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.graphs.builder import ALIGNMENT
from foggen_exporter.recipes.recipe import EMBEDDING_GROUP, Recipe, fitted
from foggen_runtime.bundle.manifest import WeightFormat
from foggen_runtime.errors import ConfigError

# By default, a recipe may take this share more bytes than the smallest model.
DEFAULT_EXTRA = 0.1


@dataclass(frozen=True)
class WeightSizes:
    """How many pages of the weights' file a model's groups take.

    Attributes:
        usual: By group, in the recipe's usual formats.
        finer: By group, in the finer format.
        rest: Weights that are not matrices.
    """

    usual: Mapping[str, int]
    finer: Mapping[str, int]
    rest: int

    @classmethod
    def of(
        cls, source: TensorSource, recipe: Recipe, positions: int, head_rows: int
    ) -> "WeightSizes":
        """Compute the sizes; each weight starts on a new page, so it takes whole pages.

        Args:
            source: The checkpoint.
            recipe: One with a finer format.
            positions: How many positions the rotary tables hold.
            head_rows: Rows of the output head that are stored besides the embedding's.
        """
        if recipe.finer is None:
            raise ValueError(f"finer: {recipe.name} has no finer format")
        config = source.config
        usual, finer = {}, {}
        for index in range(config.num_hidden_layers):
            for name, shape in config.matrix_shapes(index).items():
                usual[name] = _pages(shape, recipe.layers)
                finer[name] = _pages(shape, recipe.finer)
        shapes = [(rows, config.hidden_size) for rows in (config.vocab_size, head_rows)]
        usual[EMBEDDING_GROUP] = sum(_pages(shape, recipe.embedding) for shape in shapes)
        finer[EMBEDDING_GROUP] = sum(_pages(shape, recipe.finer) for shape in shapes)
        rest = sum(_page_count(4 * length) for length in config.vector_lengths(positions))
        return cls(usual, finer, rest)

    @property
    def smallest(self) -> int:
        """The pages of a model that is all in the usual formats."""
        return sum(self.usual.values()) + self.rest

    def room(self, budget: int | None) -> int:
        """Return how many pages a budget leaves for finer formats.

        Args:
            budget: Bytes of the weights' file; None for the default.

        Raises:
            ConfigError: It is too small for the smallest model.
        """
        if budget is None:
            return int(self.smallest * DEFAULT_EXTRA)
        room = budget // ALIGNMENT - self.smallest
        if room < 0:
            raise ConfigError(
                f"budget: must be at least {self.smallest * ALIGNMENT / 1e6:.1f} MB, which all "
                f"matrices take in the smaller format, is {budget / 1e6:g} MB"
            )
        return room


def choose_finer(damage: Mapping[str, float], sizes: WeightSizes, room: int) -> frozenset[str]:
    """Return the groups to store finer: those that together avoid the most damage.

    We assume that damages add up and that the finer format does none. Then it is the knapsack
    problem, solved exactly by dynamic programming over pages.

    Args:
        damage: Of each group in its usual format.
        sizes: Of the groups.
        room: Pages for finer formats.
    """
    groups = sorted(damage)
    room = min(room, sum(sizes.finer.values()) - sum(sizes.usual.values()))
    avoided = np.zeros(room + 1)
    taken = np.zeros((len(groups), room + 1), bool)
    for i, group in enumerate(groups):
        extra = sizes.finer[group] - sizes.usual[group]
        if extra > room:
            continue
        with_group = np.full(room + 1, -1.0)
        with_group[extra:] = avoided[: room + 1 - extra] + damage[group]
        taken[i] = with_group > avoided
        avoided = np.maximum(avoided, with_group)
    chosen, left = set(), room
    for i in reversed(range(len(groups))):
        if taken[i, left]:
            chosen.add(groups[i])
            left -= sizes.finer[groups[i]] - sizes.usual[groups[i]]
    return frozenset(chosen)


def _pages(shape: tuple[int, int], form: WeightFormat) -> int:
    """Return the pages of a matrix in blocks: values, scales, zero points (MatMulNBits)."""
    rows, columns = shape
    form = fitted(form, columns)
    if form.block_size is None:
        raise ValueError("block_size: must be a number, is not set")
    blocks = columns // form.block_size
    pages = _page_count(rows * columns * form.bits // 8) + _page_count(4 * rows * blocks)
    if not form.symmetric:
        pages += _page_count(rows * -(-blocks * form.bits // 8))
    return pages


def _page_count(size: int) -> int:
    return -(-size // ALIGNMENT)
