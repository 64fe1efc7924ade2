"""Graphs beside transformers, for families of models."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.calibration.calibration import CalibrationSet
from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.request import HeadKind
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.model.engine import Engine, EngineOptions
from foggen_runtime.model.local_model import LocalModel, OpenOptions
from tests.conftest import TINY
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.checkpoints import TinyShape, write_checkpoint
from tests.support.random_bundle import export_graph, random_ids

FP32 = find_recipe("fp32")

# Rounding's error on random weights; one that was made elsewhere would be about 1.
ERRORS = {
    "fp32": 1e-5,
    "int8": 0.06,
    "int8-weight": 0.05,
    "int4": 0.45,
    "int4-gptq": 0.45,
    "int4-mixed": 0.45,
}


def load_reference(directory: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return model


def reference_logits(model: torch.nn.Module, ids: list[int]) -> Float32:
    """Return transformers' logits in fp32: (tokens, vocab_size)."""
    with torch.no_grad():
        logits: Float32 = model.to(torch.float32)(torch.tensor([ids])).logits[0].numpy()
    return logits


def relative(one: Float32, other: Float32) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


def check_logits(checkpoint: Path, directory: Path, length: int = 90) -> None:
    """Hold the fp32 graph to transformers, and cached decoding to one pass."""
    source = Checkpoint.open(checkpoint)
    ids = random_ids(length, source.config.vocab_size)
    expected = reference_logits(load_reference(checkpoint), ids)
    exported = export_graph(source, directory, FP32, tail=length)
    logits = exported.engine().forward(ids)
    assert relative(logits, expected) < 1e-4
    assert np.array_equal(logits.argmax(-1), expected.argmax(-1))
    engine, cut = exported.engine(), length - 7
    engine.forward(ids[:cut])
    steps = np.concatenate([engine.forward([token]) for token in ids[cut:]])
    assert relative(steps, logits[cut:]) < 1e-5


def check_greedy(checkpoint: Path, directory: Path, prompts: int) -> None:
    """Hold the tokens that follow random prompts to those transformers generates."""
    source, model = Checkpoint.open(checkpoint), load_reference(checkpoint)
    exported = export_graph(source, directory, FP32)
    for seed in range(prompts):
        ids = random_ids(20 + seed % 17, source.config.vocab_size, seed)
        with torch.no_grad():
            found = model.generate(
                torch.tensor([ids]), do_sample=False, min_new_tokens=12, max_new_tokens=12
            )  # type: ignore[operator]
        ends = [*source.config.eos_token_ids]
        assert _greedy(exported.engine(), ids, 12, ends) == found[0, len(ids) :].tolist()


def _greedy(engine: Engine, ids: list[int], count: int, ends: list[int]) -> list[int]:
    """Return the likeliest tokens but for those that end a text."""
    reply: list[int] = []
    while len(reply) < count:
        logits = engine.forward(reply[-1:] or ids)[-1]
        logits[ends] = -np.inf
        reply.append(int(logits.argmax()))
    return reply


def write_with_tokenizer(directory: Path, shape: TinyShape) -> Path:
    """Write a random checkpoint with the tiny FogGen's tokenizer, whose ids are below 1152."""
    write_checkpoint(directory, shape)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TINY / "checkpoint" / name, directory)
    return directory


def export_everything(checkpoint: Path, directory: Path, quant: str, head: HeadKind) -> LocalModel:
    """Export with everything a bundle can hold, and open it."""
    full = head == "full"
    settings = ExportSettings(
        find_recipe(quant),
        load_template("mcq"),
        context_length=512,
        calibration=CalibrationSet(tuple(QUESTIONS[:2])),
        loop=full,
        genai=full,
        head=head,
    )
    export = Export.of(Checkpoint.open(checkpoint), Origin("tiny"), settings, directory)
    assert len(list(export.steps())) == export.step_count
    return LocalModel(Bundle.open(directory), OpenOptions(EngineOptions(threads=1)))


def logits_error(model: LocalModel, expected_logits: Callable[[list[int]], Float32]) -> float:
    """Return how far a bundle's logits after its snapshot are from those expected, in norm.

    Args:
        model: The bundle.
        expected_logits: Gives all logits of a prompt, (tokens, vocab_size).
    """
    ids = model.tokenizer.prompt_ids(model.bundle.manifest.prompt, QUESTIONS[5])
    assert 0 < model.prefix_length < len(ids)
    logits = model.engine.forward(ids[model.prefix_length :])
    expected = expected_logits(ids)[-len(logits) :]
    if kept := model.bundle.manifest.graph.head:
        expected = expected[:, list(kept.token_ids)]
    return float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))


def check_recipe(checkpoint: Path, directory: Path, quant: str, head: HeadKind) -> LocalModel:
    """Export with everything a bundle can hold; logits after the snapshot come near fp32's."""
    model = export_everything(checkpoint, directory, quant, head)
    reference = load_reference(checkpoint)
    assert logits_error(model, partial(reference_logits, reference)) < ERRORS[quant]
    return model


def folded_graph_error(source: TensorSource, folded: TensorSource, directory: Path) -> float:
    """Return how far the logits of folded weights are from those of the weights as they were."""
    ids = random_ids(40, source.config.vocab_size)
    one, other = (
        export_graph(weights, directory / name, FP32, tail=40).engine().forward(ids)
        for name, weights in (("folded", folded), ("plain", source))
    )
    return relative(one, other)
