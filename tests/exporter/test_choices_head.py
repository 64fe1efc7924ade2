"""An output head of the letters alone: the same decisions, and nothing else."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.text.prompt import head_info
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime import Foggen
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.cli import foggen
from foggen_runtime.errors import ConfigError
from foggen_runtime.model.decoding import Decoding, DecodingMode
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.local_model import LocalModel, OpenOptions
from tests.conftest import TINY, BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.checkpoints import add_other_lm_head, write_checkpoint
from tests.support.random_bundle import export_graph, random_ids
from tests.support.tokenizers import qwen3_tokenizer

OPTIONS = OpenOptions(EngineOptions(threads=1, spinning=False))
MCQ = load_template("mcq")


@pytest.fixture(scope="module")
def choices_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("choices")
    settings = ExportSettings(find_recipe("int4"), MCQ, head="choices")
    source = Checkpoint.open(TINY / "checkpoint")
    for _ in Export.of(source, Origin("tiny"), settings, directory).steps():
        pass
    return directory


@pytest.fixture(scope="module")
def choices(choices_bundle: Path) -> LocalModel:
    return LocalModel(Bundle.open(choices_bundle), OPTIONS)


@pytest.fixture(scope="module")
def full(tiny_bundle: BundleOf) -> LocalModel:
    return LocalModel(Bundle.open(tiny_bundle("int4")), OPTIONS)


def prompt_of(model: LocalModel, question: str) -> list[int]:
    return model.tokenizer.prompt_ids(model.bundle.manifest.prompt, question)[model.prefix_length :]


def test_decisions_are_the_full_heads(choices: LocalModel, full: LocalModel) -> None:
    letters = set(choices.bundle.manifest.graph.head.answer_ids)  # type: ignore[union-attr]
    eos = full.bundle.manifest.model.eos_token_ids[0]
    template = full.bundle.manifest.template
    for question in QUESTIONS[:60]:
        ours, theirs = choices.decoder(Decoding()), full.decoder(Decoding())
        prompt = prompt_of(full, question)
        one, other = ours.decide(prompt), theirs.decide(prompt)
        assert one.tokens == other.tokens
        assert one.reading is not None
        assert other.reading is not None
        assert one.reading.level_probabilities == other.reading.level_probabilities
        assert one.reading.template_probability is None
        answer = list(theirs.answer(8))
        assert answer[len(template.answer_prefix_ids)] in letters
        assert list(ours.answer(8)) == [*answer[: len(template.answer_prefix_ids) + 1], eos]


def test_every_row_of_the_bundle_is_the_full_heads(choices: LocalModel, full: LocalModel) -> None:
    """Also the ends, which decide nothing, and letters that no question asked for."""
    head = choices.bundle.manifest.graph.head
    assert head is not None
    logits = []
    for model in (full, choices):
        model.engine.cache.truncate(model.prefix_length)
        logits.append(model.engine.forward(prompt_of(full, QUESTIONS[0])))
    expected = logits[0][:, list(head.token_ids)]
    assert np.abs(logits[1] - expected).max() <= 1e-6 * np.abs(expected).max()


def test_the_end_costs_no_pass(choices: LocalModel) -> None:
    decoder = choices.decoder(Decoding())
    decoder.decide(prompt_of(choices, QUESTIONS[0]))
    passes = choices.engine.forward_passes
    prefix = choices.bundle.manifest.template.answer_prefix_ids
    assert len(list(decoder.answer(len(prefix) + 1))) == len(prefix) + 1  # the limit takes the end
    assert choices.engine.forward_passes == passes + 1


def test_the_answer_is_held_to_the_options(choices: LocalModel, full: LocalModel) -> None:
    decoding = Decoding(choices=("A", "C"))
    for question in QUESTIONS[:10]:
        answers = []
        for model in (choices, full):
            decoder = model.decoder(decoding)
            decoder.decide(prompt_of(model, question))
            answers.append(list(decoder.answer(4)))
        assert answers[0] == answers[1]


@pytest.mark.parametrize("mode", ["greedy", "step"])
def test_other_decodings_are_refused(choices: LocalModel, mode: DecodingMode) -> None:
    with pytest.raises(ConfigError, match=f"decoding: must be constrained .* is {mode}"):
        choices.decoder(Decoding(mode))


def test_letters_it_has_not_are_refused(choices: LocalModel) -> None:
    with pytest.raises(ConfigError, match=r"choices: must be letters that .* are A, b"):
        choices.decoder(Decoding(choices=("A", "b")))


def test_the_manifest_promises_no_check_of_the_template(choices: LocalModel) -> None:
    assert choices.bundle.manifest.template.min_template_probability == 0


def test_card_and_inspection_say_so(choices_bundle: Path, tiny_bundle: BundleOf) -> None:
    for bundle, said in ((choices_bundle, True), (tiny_bundle("int4"), False)):
        card = (bundle / "README.md").read_text(encoding="utf-8")
        shown = CliRunner().invoke(foggen, ["inspect", str(bundle)]).stdout
        assert ("only write multiple-choice replies" in card) == said
        assert ("(choices): constrained decoding only" in shown) == said


def test_asking_has_no_template_probability(choices_bundle: Path) -> None:
    with Foggen.open(choices_bundle, options=OPTIONS) as opened:
        results = [opened.ask(question, route="local_only") for question in QUESTIONS[:3]]
    for result in results:
        assert (result.template_probability, result.finish_reason) == (None, "stop")
        assert result.answer == result.choice


def test_the_head_is_small_and_the_embedding_whole(choices_bundle: Path) -> None:
    model = onnx.load(choices_bundle / "model.onnx", load_external_data=False)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    head = Bundle.open(choices_bundle).manifest.graph.head
    assert head is not None
    assert shapes["logits.weight"][0] == len(head.token_ids) < 100
    assert (
        shapes["embed_tokens.weight"][0] == Checkpoint.open(TINY / "checkpoint").config.vocab_size
    )


def test_the_real_tokenizers_letters() -> None:
    tokenizer = qwen3_tokenizer()
    head = head_info(tokenizer, MCQ, (151645, 151643))
    spelled = {tokenizer.decode([token]) for token in head.answer_ids}
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert spelled == {*letters, *(f" {letter}" for letter in letters)}
    reply = "Confidence: 0.75\nFinal answer: B<|im_end|>"
    assert set(tokenizer(reply)["input_ids"]) <= set(head.token_ids)


@pytest.mark.parametrize("option", ["loop", "genai"])
def test_graphs_that_need_every_token_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="head: must be full"):
        ExportSettings(find_recipe("int4"), MCQ, head="choices", **{option: True})  # type: ignore[arg-type]


@pytest.mark.parametrize("quant", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("untied", [False, True])
def test_logits_are_those_rows_of_the_full_heads(quant: str, untied: bool, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    if untied:
        add_other_lm_head(checkpoint)
    source = Checkpoint.open(checkpoint)
    kept = (3, 7, 8, 100, source.config.vocab_size - 1)
    whole = export_graph(source, tmp_path / "whole", find_recipe(quant))
    part = export_graph(source, tmp_path / "part", find_recipe(quant), head_ids=kept)
    ids = random_ids(40, source.config.vocab_size)
    logits = whole.engine().forward(ids)[:, list(kept)]
    found = part.engine().forward(ids)
    assert np.abs(found - logits).max() <= 1e-6 * np.abs(logits).max()
