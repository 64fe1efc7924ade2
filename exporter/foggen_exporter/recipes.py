"""Recipes: named ways to store the weights of a model."""

from dataclasses import dataclass

from foggen_runtime.errors import ConfigError
from foggen_runtime.manifest import WeightFormat


@dataclass(frozen=True)
class Recipe:
    """A named quantization: how the layers' matrices and the embedding are stored.

    A tied output head shares the embedding's bytes; an untied one has its format.

    Attributes:
        smoothing: Whether outliers move from activations into weights first.
        error_feedback: Whether weights are rounded by what their errors do to calibration prompts.
    """

    name: str
    layers: WeightFormat
    embedding: WeightFormat
    smoothing: bool = False
    error_feedback: bool = False

    @property
    def calibrated(self) -> bool:
        """Whether the recipe goes by activations."""
        return self.smoothing or self.error_feedback

    @property
    def groups(self) -> dict[str, WeightFormat]:
        """The formats by the name of the group of weights, as the manifest records them."""
        return {"layers": self.layers, "embedding": self.embedding}


_FULL = WeightFormat(bits=32)
_INT8 = WeightFormat(bits=8, symmetric=True, activation_bits=8)
_INT8_BLOCKS = WeightFormat(bits=8, block_size=128, symmetric=True, accuracy_level=4)
_INT4 = WeightFormat(bits=4, block_size=128, symmetric=False, accuracy_level=4)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", layers=_FULL, embedding=_FULL),
        Recipe("int8", layers=_INT8, embedding=_INT8_BLOCKS, smoothing=True),
        Recipe("int8-weight", layers=_INT8_BLOCKS, embedding=_INT8_BLOCKS),
        Recipe("int4", layers=_INT4, embedding=_INT4),
        Recipe("int4-gptq", layers=_INT4, embedding=_INT4, error_feedback=True),
    )
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises:
        ConfigError: There is no such recipe.
    """
    if name not in RECIPES:
        raise ConfigError(f"quant: must be one of {', '.join(RECIPES)}, is {name!r}")
    return RECIPES[name]
