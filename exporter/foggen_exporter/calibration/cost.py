"""How long calibrating will take, to be said before it starts."""

import time
from collections.abc import Sequence

from foggen_exporter.architectures.config import DecoderConfig
from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.architectures.layers import Layer, embed, fp32_graph
from foggen_exporter.calibration.damage import damage_steps
from foggen_exporter.recipes.recipe import Recipe
from foggen_runtime.wording import counted

# Recipes do more than run the layers: in the worst case measured, this many times as long.
_MOST = 4


def layer_tokens(
    recipe: Recipe, config: DecoderConfig, lengths: Sequence[int], probes: Sequence[int]
) -> int:
    """Return how many tokens go through an fp32 layer, counted once for each layer.

    Args:
        recipe: What is calibrated.
        config: The model's shape.
        lengths: The tokens of each calibration prompt.
        probes: The tokens of each probe, for recipes of mixed bits.
    """
    mixed = recipe.finer is not None
    runs = recipe.smoothing + recipe.error_feedback * (1 + mixed)
    tokens = sum(lengths) * config.num_hidden_layers * runs
    if mixed:
        tokens += sum(probes) * damage_steps(config)
    return tokens


def token_seconds(source: TensorSource, ids: Sequence[int]) -> float:
    """Time the first layer in fp32 on this machine: seconds per token."""
    graph = fp32_graph(source, positions=len(ids), tail=len(ids))
    layer, hidden = Layer(graph, 0), embed(source, ids)
    layer.run(hidden)
    started = time.perf_counter()
    layer.run(hidden)
    return (time.perf_counter() - started) / len(ids)


def cost_sentence(questions: int, tokens: int, seconds: float) -> str:
    """Say how much goes through the layers, and about how long it will take.

    Args:
        questions: How many questions calibrate.
        tokens: What `layer_tokens` counts.
        seconds: Time for one token through one layer, as just measured.
    """
    least = tokens * seconds
    return (
        f"Calibrating on {counted(questions, 'question')}: {counted(tokens, 'token')} through a "
        f"layer in fp32, about {_duration(least)} to {_duration(_MOST * least)}"
    )


def _duration(seconds: float) -> str:
    """Return a time in at most two digits, as it is only an estimate."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
