"""Bundles through optimum's exporter, in an environment that has it: `make test-optimum`."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
)

from foggen_exporter.cli import export_command
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.graphs.optimum_graph import GraphShape
from foggen_exporter.optimum_export import OptimumCheckpoint, OptimumExport, export_graph
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.text.prompt import prompt_info
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.text.tokenizer_files import load_tokenizer
from foggen_runtime import Decoding, EngineOptions, Foggen, OpenOptions
from foggen_runtime.bundle.manifest import GraphInfo, Manifest
from foggen_runtime.decide.trie import TemplateTrie, read_levels
from foggen_runtime.model.decoding import DecodingMode
from foggen_runtime.model.engine import Engine
from foggen_runtime.model.kv_cache import KvCache
from tests.conftest import TINY
from tests.support.export import export_bundle
from tests.support.random_bundle import random_ids
from tests.support.transformers_4 import copy_tokenizer, llama, teach

CHECKPOINT = TINY / "checkpoint"
MODES: tuple[DecodingMode, ...] = ("step", "greedy", "constrained")
QUANTS = ("fp32", "int8-weight", "int4")
REPLIES = {
    "Which is larger? A) 3 B) 5": "Confidence: 1.0\nFinal answer: B<|im_end|>",
    "Which is red? A) blood B) grass": "Confidence: 0.75\nFinal answer: A<|im_end|>",
    "Who wrote it? A) Ann B) Bob C) Cy": "Confidence: 0.5\nFinal answer: C<|im_end|>",
    "How many? A) 12 B) 40": "Confidence: 0.0\nFinal answer: A<|im_end|>",
}

pytestmark = [
    pytest.mark.optimum,
    pytest.mark.filterwarnings("default"),  # those of torch and optimum are not ours to mend
]


def export_with_optimum(checkpoint: Path, directory: Path, quant: str) -> Path:
    settings = ExportSettings(find_recipe(quant), load_template("mcq"))
    directory.mkdir()
    source = OptimumCheckpoint.open(checkpoint)
    for _ in OptimumExport(source, Origin("tiny"), settings, directory).steps():
        pass
    return directory


def opened(bundle: Path) -> Foggen:
    return Foggen.open(bundle, options=OpenOptions(engine=EngineOptions(threads=1, spinning=False)))


def prompts_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    info = prompt_info(tokenizer, load_template("mcq"))
    prompts = {}
    for question in REPLIES:
        text = info.question_prefix + question + info.question_suffix
        middle = tokenizer(text, add_special_tokens=False)["input_ids"]
        prompts[question] = [*info.prefix_ids, *middle, *info.suffix_ids]
    return prompts


@dataclass(frozen=True)
class Llama:
    """A checkpoint that knows a few replies, what transformers writes with it, and a bundle."""

    model: LlamaForCausalLM
    prompts: dict[str, list[int]]
    written: dict[str, list[int]]
    foggen: Foggen


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("llama")
    torch.set_num_threads(1)
    model = llama(CHECKPOINT)
    model.save_pretrained(directory)
    copy_tokenizer(CHECKPOINT, directory)
    tokenizer, _ = load_tokenizer(directory, model.config.vocab_size, model.config)
    replies = {
        tuple(prompt): tokenizer(REPLIES[question], add_special_tokens=False)["input_ids"]
        for question, prompt in prompts_of(tokenizer).items()
    }
    teach(model, replies)
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module", params=QUANTS)
def taught(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Llama]:
    bundle = tmp_path_factory.mktemp("bundles") / request.param
    export_with_optimum(checkpoint, bundle, request.param)
    model = LlamaForCausalLM.from_pretrained(checkpoint)
    tokenizer, _ = load_tokenizer(checkpoint, model.config.vocab_size, model.config)
    prompts = prompts_of(tokenizer)
    written = {}
    for question, prompt in prompts.items():
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        output = model.generate(  # type: ignore[misc, unused-ignore]
            ids, attention_mask=mask, max_new_tokens=24, do_sample=False
        )
        written[question] = output[0, len(prompt) :].tolist()
    with opened(bundle) as foggen:
        yield Llama(model, prompts, written, foggen)


@pytest.mark.parametrize("mode", MODES)
def test_a_llama_writes_what_transformers_writes(taught: Llama, mode: DecodingMode) -> None:
    local = taught.foggen.model
    for question, prompt in taught.prompts.items():
        assert taught.foggen.prompt_ids(question) == prompt
        decoder = local.decoder(Decoding(mode=mode))
        decision = decoder.decide(prompt[local.prefix_length :])
        assert decision.level is not None
        assert [*decision.tokens, *decoder.answer(24)] == taught.written[question]


def test_the_command_reports_and_judges(checkpoint: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:5]
    data.write_text("\n".join(lines))
    arguments = [checkpoint, "--graph", "optimum", "--quant", "int4", "-o", tmp_path / "bundle"]
    wishes = ["--data", data, "--report", tmp_path / "report.md", "--json"]
    done = CliRunner().invoke(export_command, [str(word) for word in (*arguments, *wishes)])
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    manifest = Manifest.load(tmp_path / "bundle")
    assert (facts["recipe"], facts["sha256"]) == ("int4", manifest.sha256)
    assert manifest.provenance["tool"].endswith(f"optimum-onnx {version('optimum-onnx')}")
    assert "5 decisions" in done.stderr
    assert (tmp_path / "report.md").exists()


def test_answers_are_those_it_was_taught(taught: Llama) -> None:
    for question, reply in REPLIES.items():
        result = taught.foggen.ask(question, tau=0.0)
        assert f"Confidence: {result.confidence}" == reply.split("\n")[0]
        assert result.answer == reply.removesuffix("<|im_end|>")[-1]


def test_what_it_cannot_do_is_in_the_manifest(taught: Llama) -> None:
    manifest = taught.foggen.model.bundle.manifest
    graph, model = manifest.graph, manifest.model
    assert (graph.shared_cache, graph.position_ids) == (False, True)
    assert graph.logits_tail == model.context_length == 1024
    assert (model.architecture, model.head_dim) == ("LlamaForCausalLM", 32)
    assert (model.num_hidden_layers, model.num_key_value_heads) == (2, 2)


@pytest.mark.parametrize("taught", ["fp32"], indirect=True)
def test_level_probabilities_are_those_of_transformers_logits(taught: Llama) -> None:
    local = taught.foggen.model
    trie = TemplateTrie.of(local.bundle.manifest.template)
    for prompt in taught.prompts.values():
        rows = {}
        for draft in trie.drafts:
            with torch.no_grad():
                logits = taught.model(torch.tensor([[*prompt, *draft]])).logits[0].numpy()
            for depth in range(len(draft) + 1):
                rows[draft[:depth]] = logits[len(prompt) - 1 + depth]
        expected = read_levels(trie, rows)
        reading = local.decoder(Decoding()).decide(prompt[local.prefix_length :]).reading
        assert reading is not None
        assert reading.level == expected.level
        assert reading.level_probabilities == pytest.approx(expected.level_probabilities, abs=1e-4)


class TestTinyFoggen:
    """The tiny FogGen through optimum's graph, against our own."""

    def test_logits_are_ours(self, bundles: tuple[Path, Path], questions: list[str]) -> None:
        with opened(bundles[0]) as ours, opened(bundles[1]) as other:
            for question in questions:
                prompt = ours.prompt_ids(question)
                assert other.prompt_ids(question) == prompt
                rows = []
                for foggen in (ours, other):
                    foggen.model.engine.cache.truncate(0)
                    rows.append(foggen.model.engine.forward(prompt))
                assert len(rows[1]) == len(prompt)
                np.testing.assert_allclose(rows[1][-len(rows[0]) :], rows[0], atol=1e-4)

    def test_the_prefix_snapshot_is_ours(self, bundles: tuple[Path, Path]) -> None:
        one, other = (np.load(bundle / "prefix_snapshot.npy") for bundle in bundles)
        np.testing.assert_allclose(other, one, atol=1e-4)

    @pytest.mark.parametrize("mode", MODES)
    def test_decisions_and_answers_are_ours(
        self, bundles: tuple[Path, Path], questions: list[str], mode: DecodingMode
    ) -> None:
        answers = []
        for bundle in bundles:
            with opened(bundle) as foggen:
                results = [
                    foggen.ask(question, tau=0.0, decoding=Decoding(mode=mode))
                    for question in questions
                ]
            answers.append([(r.confidence, r.answer, r.finish_reason) for r in results])
        assert answers[0] == answers[1]
        assert len(set(answers[0])) > 1


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The tiny FogGen with our own graph, and with optimum's."""
    root = tmp_path_factory.mktemp("tiny")
    checkpoint = root / "checkpoint"
    shutil.copytree(CHECKPOINT, checkpoint)
    copy_tokenizer(CHECKPOINT, checkpoint)
    ours = export_bundle(checkpoint, root / "ours", "fp32")
    return ours, export_with_optimum(checkpoint, root / "optimum", "fp32")


@pytest.fixture(scope="module")
def questions() -> list[str]:
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["question"] for line in lines[:20]]


SIZES = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("bloom", {}),  # no rotation, and no limit of positions
        ("falcon", {}),  # one head of keys
        ("gemma3_text", {"num_key_value_heads": 2, "head_dim": 16, "sliding_window": 32}),
        ("gpt2", {}),  # names of its own, and products by Gemm
        ("phi3", {"num_key_value_heads": 2}),  # joint matrices
    ],
)
def test_appending_and_rolling_back_give_transformers_logits(
    architecture: str, more: dict[str, int], tmp_path: Path
) -> None:
    config = AutoConfig.for_model(architecture, **SIZES, **more)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.save_pretrained(tmp_path / "checkpoint")
    path = export_graph(tmp_path / "checkpoint", tmp_path)
    shape = GraphShape.of(onnx.load_model(path, load_external_data=False))
    checkpoint = OptimumCheckpoint.open(tmp_path / "checkpoint")
    info = checkpoint.model_info(Origin("random"), shape, 256)
    graph = GraphInfo(path.name, 256, "1.27", shared_cache=False, position_ids=shape.position_ids)
    engine = Engine(path, graph, EngineOptions(threads=1, spinning=False), KvCache(info))
    ids = random_ids(60, 300)
    rows = [engine.forward(ids[:40])]
    engine.forward([5, 6, 7, 8])
    engine.cache.truncate(40)
    rows.append(engine.forward(ids[40:47])[:5])
    engine.cache.truncate(45)
    rows.append(engine.forward(ids[45:]))
    with torch.no_grad():
        expected = model.eval()(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(np.concatenate(rows), expected, atol=1e-3)
