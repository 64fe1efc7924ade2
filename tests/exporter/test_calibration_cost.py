"""What calibrating costs, counted before it begins."""

from foggen_exporter.architectures.qwen3_config import Qwen3Config
from foggen_exporter.calibration_cost import cost_sentence, layer_tokens
from foggen_exporter.damage import damage_steps
from foggen_exporter.probes import MAX_PROBES
from foggen_exporter.recipes import RECIPES
from tests.support.checkpoints import TinyQwen3, random_model

CONFIG = Qwen3Config.from_config(random_model(TinyQwen3()).config.to_dict())
LENGTHS = [10] * (2 * MAX_PROBES)


def test_every_pass_through_a_layer_counts() -> None:
    layers, tokens = CONFIG.num_hidden_layers, sum(LENGTHS)
    counted = {name: layer_tokens(recipe, CONFIG, LENGTHS) for name, recipe in RECIPES.items()}
    probes = tokens // 2 * damage_steps(CONFIG)
    assert counted["int4"] == 0
    assert counted["int8"] == counted["int4-gptq"] == layers * tokens
    assert counted["int4-mixed"] == 2 * layers * tokens + probes


def test_the_sentence_says_what_and_how_long() -> None:
    sentence = cost_sentence(24, 10**12, CONFIG)
    assert sentence.startswith("Calibrating on 24 questions: 1000000000000 tokens through a layer")
    minutes = int(sentence.removesuffix(" min").rpartition(" ")[2])
    assert minutes > 10
