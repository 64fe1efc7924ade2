"""What calibrating costs, counted before it begins."""

from pathlib import Path

from foggen_exporter.architectures.qwen3 import Qwen3
from foggen_exporter.calibration.cost import cost_sentence, layer_tokens, token_seconds
from foggen_exporter.calibration.damage import damage_steps
from foggen_exporter.recipes.recipe import RECIPES
from foggen_exporter.weights.checkpoint import Checkpoint
from tests.support.checkpoints import TinyQwen3, random_model, write_checkpoint
from tests.support.random_bundle import random_ids

CONFIG = Qwen3.from_config(random_model(TinyQwen3()).config.to_dict())
LENGTHS, PROBES = [10, 20, 30], [10, 10]


def test_every_pass_through_a_layer_counts() -> None:
    layers, tokens = CONFIG.num_hidden_layers, sum(LENGTHS)
    counted = {
        name: layer_tokens(recipe, CONFIG, LENGTHS, PROBES) for name, recipe in RECIPES.items()
    }
    assert counted["int4"] == 0
    assert counted["int8"] == layers * tokens
    assert counted["int4-gptq"] == 2 * layers * tokens
    assert counted["int4-mixed"] == 3 * layers * tokens + sum(PROBES) * damage_steps(CONFIG)


def test_the_sentence_says_what_and_how_long() -> None:
    assert cost_sentence(24, 3_000_000, 0.001) == (
        "Calibrating on 24 questions: 3000000 tokens through a layer in fp32, about 50 min to 3.3 h"
    )


def test_the_sentence_claims_no_minutes_for_what_takes_seconds() -> None:
    sentence = cost_sentence(1, 3000, 0.001)
    assert sentence.startswith("Calibrating on 1 question: ")
    assert sentence.endswith(", about 3 s to 12 s")


def test_a_token_takes_longer_through_a_larger_layer(tmp_path: Path) -> None:
    small, large = (
        Checkpoint.open(write_checkpoint(tmp_path / str(size), TinyQwen3(intermediate_size=size)))
        for size in (128, 128 * 64)
    )
    ids = random_ids(64, 300)
    # The larger does 64 times the work; the least of several times is that of a moment's peace.
    times = [min(token_seconds(model, ids) for _ in range(5)) for model in (small, large)]
    assert 0 < times[0] < times[1] < 1
