"""Letters are looked for where the model writes them: bare, after a space, on the next line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from string import ascii_uppercase

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from foggen_exporter.export import Export
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.request import HeadKind
from foggen_exporter.text.prompt import head_info, save_tokenizer, template_info
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.weights.checkpoint import Checkpoint
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.local_model import LocalModel, OpenOptions
from foggen_runtime.text.choice import question_options
from foggen_runtime.text.letters import letter_ids
from foggen_runtime.text.tokenizer import QuestionTokenizer
from tests.conftest import TINY
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.checkpoints import EMBEDDING, LM_HEAD, edit_json, edit_tensors
from tests.support.tokenizers import qwen3_tokenizer, tiny_tokenizer

MCQ = load_template("mcq")
OPTIONS = OpenOptions(EngineOptions(threads=1, spinning=False))


@pytest.fixture(scope="module")
def spaceless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes `Final answer:B`: the head's rows of `B` and ` B` change places."""
    directory = tmp_path_factory.mktemp("spaceless") / "checkpoint"
    copytree(TINY / "checkpoint", directory)
    tokenizer = QuestionTokenizer.from_file(directory / "tokenizer.json")

    def swap(tensors: dict[str, torch.Tensor]) -> None:
        head = tensors[EMBEDDING].clone()
        for letter in ascii_uppercase:
            (bare,), spaced = tokenizer.encode(letter), tokenizer.encode(f" {letter}")
            if len(spaced) == 1:
                head[[bare, spaced[0]]] = head[[spaced[0], bare]]
        tensors[LM_HEAD] = head

    edit_tensors(directory, swap)
    edit_json(directory / "config.json", lambda config: config.update(tie_word_embeddings=False))
    return directory


def model_of(checkpoint: Path, directory: Path, head: HeadKind) -> LocalModel:
    settings = ExportSettings(find_recipe("fp32"), MCQ, head=head)
    for _ in Export.of(Checkpoint.open(checkpoint), Origin("tiny"), settings, directory).steps():
        pass
    return LocalModel(Bundle.open(directory), OPTIONS)


def answer_of(model: LocalModel, question: str, choices: tuple[str, ...] | None) -> str:
    decoder = model.decoder(Decoding(choices=choices))
    prompt = model.tokenizer.prompt_ids(model.bundle.manifest.prompt, question)
    decoder.decide(prompt[model.prefix_length :])
    prefix = len(model.bundle.manifest.template.answer_prefix_ids)
    return model.tokenizer.decode(list(decoder.answer(prefix + 1))[prefix:])


@pytest.mark.parametrize("head", ["full", "choices"])
def test_letters_without_a_space_are_chosen_as_freely_written(
    spaceless: Path, tmp_path: Path, head: HeadKind
) -> None:
    free = model_of(spaceless, tmp_path / "full", "full")
    (tmp_path / head).mkdir(exist_ok=True)
    held = free if head == "full" else model_of(spaceless, tmp_path / head, head)
    agreeing = 0
    for question in QUESTIONS[:60]:
        options = question_options(question)
        written = answer_of(free, question, None)
        if written in options:
            agreeing += 1
            assert answer_of(held, question, options) == written
    assert agreeing > 40


PREFIXES = ("Final answer:", "Final answer:\n", "Answer: (", "Answer:\n\n", "Answer: **", "->")


@pytest.mark.parametrize("source", [tiny_tokenizer, qwen3_tokenizer])
def test_letters_are_one_token_after_any_prefix(
    source: Callable[[], PreTrainedTokenizerFast], tmp_path: Path
) -> None:
    theirs = source()
    save_tokenizer(theirs, tmp_path)
    tokenizer = QuestionTokenizer.from_file(tmp_path / "tokenizer.json")
    for prefix in PREFIXES:
        template = replace(MCQ, answer_prefix=prefix)
        info = template_info(theirs, template)
        head = head_info(theirs, template, ())
        before = tokenizer.decode((*info.separator_ids, *info.answer_prefix_ids))
        for letter in ascii_uppercase:
            ids = letter_ids(tokenizer.encode, before, info.answer_prefix_ids, letter)
            spelled = {theirs.decode([token]) for token in ids}
            assert letter in spelled <= {letter, f" {letter}"}
            assert set(ids) <= set(head.answer_ids)
            whole = theirs(before + letter, add_special_tokens=False)["input_ids"]
            if theirs.decode(whole[-1:]) == letter:
                assert whole[-1] in ids
