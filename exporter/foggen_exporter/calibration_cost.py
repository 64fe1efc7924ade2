"""What calibrating will cost, said before it begins."""

import time
from collections.abc import Sequence

from foggen_exporter.architectures.qwen3 import Qwen3Graph
from foggen_exporter.architectures.qwen3_config import Qwen3Config
from foggen_exporter.checkpoint import TensorSource
from foggen_exporter.damage import damage_steps
from foggen_exporter.layers import Layer, embed
from foggen_exporter.recipes import Recipe, find_recipe


def layer_tokens(
    recipe: Recipe, config: Qwen3Config, lengths: Sequence[int], probes: Sequence[int]
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
    """Time the first layer in fp32 on this machine: seconds for each of some tokens."""
    graph = Qwen3Graph(source, find_recipe("fp32"), positions=len(ids), tail=len(ids))
    layer, hidden = Layer(graph, 0), embed(source, ids)
    layer.run(hidden)
    started = time.perf_counter()
    layer.run(hidden)
    return (time.perf_counter() - started) / len(ids)


def cost_sentence(questions: int, tokens: int, seconds: float) -> str:
    """Say what goes through the layers, and how long that alone will take.

    Args:
        questions: How many questions calibrate.
        tokens: What `layer_tokens` counts.
        seconds: For one token through one layer.
    """
    return (
        f"Calibrating on {questions} questions: {tokens} tokens through a layer in fp32, "
        f"at least {max(1, round(tokens * seconds / 60))} min"
    )
