"""What calibrating will cost, said before it begins."""

import time
from collections.abc import Sequence

import numpy as np

from foggen_exporter.architectures.qwen3_config import Qwen3Config
from foggen_exporter.architectures.qwen3_matrices import layer_matrices
from foggen_exporter.damage import damage_steps
from foggen_exporter.probes import MAX_PROBES
from foggen_exporter.recipes import Recipe

_TRIAL = 1024


def layer_tokens(recipe: Recipe, config: Qwen3Config, lengths: Sequence[int]) -> int:
    """Return how many tokens go through an fp32 layer, counted once for each layer.

    Args:
        recipe: What is calibrated.
        config: The model's shape.
        lengths: The tokens of each calibration prompt.
    """
    mixed = recipe.finer is not None
    runs = recipe.smoothing + recipe.error_feedback * (1 + mixed)
    tokens = sum(lengths) * config.num_hidden_layers * runs
    if mixed:
        probes = min(MAX_PROBES, len(lengths))
        tokens += sum(lengths) * probes // len(lengths) * damage_steps(config)
    return tokens


def cost_sentence(questions: int, tokens: int, config: Qwen3Config) -> str:
    """Say what goes through the layers, and what the products alone will take on this machine.

    Args:
        questions: How many questions calibrate.
        tokens: What `layer_tokens` counts.
        config: The model's shape.
    """
    weights = sum(rows * columns for rows, columns in layer_matrices(config, 0).values())
    minutes = 2 * weights * tokens / _operations_per_second() / 60
    return (
        f"Calibrating on {questions} questions: {tokens} tokens through a layer in fp32, "
        f"at least {max(1, round(minutes))} min"
    )


def _operations_per_second() -> float:
    """Time one product of matrices."""
    square = np.ones((_TRIAL, _TRIAL), np.float32)
    np.matmul(square, square)
    started = time.perf_counter()
    np.matmul(square, square)
    return 2 * _TRIAL**3 / (time.perf_counter() - started)
