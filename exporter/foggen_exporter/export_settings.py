"""What to make of which checkpoint."""

from dataclasses import dataclass, field
from pathlib import Path

from foggen_exporter.calibration.calibration import CalibrationSet
from foggen_exporter.recipes.recipe import Recipe
from foggen_exporter.request import HeadKind
from foggen_exporter.text.reply_template import Template
from foggen_runtime.errors import ConfigError


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint came from.

    Attributes:
        name: Its hub id, or its directory's or file's name.
        revision: Its commit.
        adapter: What was merged into it.
        called: What the bundle is called; None for the checkpoint's own name.
    """

    name: str
    revision: str | None = None
    adapter: Path | None = None
    called: str | None = None

    @property
    def adapter_name(self) -> str | None:
        """The name of the adapter's directory."""
        return self.adapter.resolve().name if self.adapter else None

    @property
    def bundle_name(self) -> str:
        """What the bundle is called."""
        return self.called or self.name.rpartition("/")[2].removesuffix(".gguf")


@dataclass(frozen=True)
class ExportSettings:
    """What to make of a checkpoint.

    Attributes:
        recipe: How weights are stored.
        template: What the model is told and how it replies.
        tau: The manifest's default threshold.
        context_length: The most tokens of prompt and answer; at most the checkpoint's own.
        prefix_snapshot: Whether to ship the prompt prefix's KV cache.
        calibration: Questions for the recipes that need activations.
        budget: The most bytes of the weights' file, for recipes of mixed bits; None for a tenth
            more than with the smaller format alone.
        loop: Whether to add the loop inside the model.
        genai: Whether to add what onnxruntime-genai needs.
        head: Which tokens get logits: all, or with `choices` those of a multiple-choice reply.
    """

    recipe: Recipe
    template: Template
    tau: float = 0.5
    context_length: int = 4096
    prefix_snapshot: bool = True
    calibration: CalibrationSet = field(default_factory=CalibrationSet.built_in)
    budget: int | None = None
    loop: bool = False
    genai: bool = False
    head: HeadKind = "full"

    def __post_init__(self) -> None:
        if not 0 <= self.tau <= 1:
            raise ConfigError(f"tau: must be within [0, 1], is {self.tau}")
        if self.context_length < 1:
            raise ConfigError(f"context_length: must be at least 1, is {self.context_length}")
        if self.budget is not None and self.recipe.finer is None:
            raise ConfigError(f"budget: {self.recipe.name} does not choose bits, leave it out")
        if self.head == "choices" and (self.loop or self.genai):
            raise ConfigError("head: must be full with --loop or --genai, is choices")
