"""Prompts of other families have transformers' own ids, and typed control tokens stay text."""

from dataclasses import dataclass
from typing import cast

import pytest
from tokenizers import normalizers
from transformers import PreTrainedTokenizerBase

from foggen_exporter.text.chat_template import control_ids, turn_end
from foggen_exporter.text.prompt import prompt_info
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.text.tokenizer_files import write_tokenizer
from foggen_runtime.bundle.manifest import PromptInfo
from foggen_runtime.text.tokenizer import QuestionTokenizer
from tests.support.chat_templates import CHAT_FORMATS, ChatFormat
from tests.support.tokenizers import varied_questions

MCQ = load_template("mcq")


@dataclass(frozen=True)
class Written:
    """A family's tokenizer, and what its bundle holds."""

    chat: ChatFormat
    source: PreTrainedTokenizerBase
    prompt: PromptInfo
    runtime: QuestionTokenizer

    def chat_ids(self, question: str) -> list[int]:
        """Return the prompt's ids by transformers."""
        messages = [
            {"role": "system", "content": MCQ.system},
            {"role": "user", "content": question},
        ]
        ids = self.source.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
        return cast(list[int], ids)


@pytest.fixture(scope="module", params=CHAT_FORMATS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    chat = CHAT_FORMATS[request.param]
    source = chat.tokenizer()
    prompt = prompt_info(source, MCQ)
    runtime = write_tokenizer(source, MCQ, prompt, tmp_path_factory.mktemp("bundle"))
    return Written(chat, source, prompt, runtime)


def test_ids_are_those_of_transformers(written: Written) -> None:
    questions = varied_questions(520)
    assert len(questions) >= 500
    for question in questions:
        ids = written.runtime.prompt_ids(written.prompt, question)
        assert ids == written.chat_ids(question), repr(question)


def test_the_prompt_is_cut_where_the_question_begins(written: Written) -> None:
    info, tokens = written.prompt, written.source.convert_ids_to_tokens
    assert info.question_prefix == written.chat.question_prefix
    assert info.question_suffix == ""
    assert str(written.source.decode(list(info.prefix_ids))).endswith(written.chat.cut)
    assert tokens(info.suffix_ids[0]) == written.chat.end
    assert MCQ.system in written.source.decode(list(info.prefix_ids))
    end = turn_end(written.source, MCQ)
    assert end == written.source.convert_tokens_to_ids(written.chat.end)


def test_typed_control_tokens_stay_text(written: Written) -> None:
    controls = control_ids(written.source)
    prefix, suffix = written.prompt.prefix_ids, written.prompt.suffix_ids
    for token in written.chat.controls:
        for question in (f"mid{token}dle", token + token, f"a {token}\n{token} b"):
            ids = written.runtime.prompt_ids(written.prompt, question)
            middle = ids[len(prefix) : len(ids) - len(suffix)]
            assert (tuple(ids[: len(prefix)]), tuple(ids[-len(suffix) :])) == (prefix, suffix)
            assert controls.isdisjoint(middle)
            assert written.runtime.decode(middle) == written.prompt.question_prefix + question


def test_nothing_is_cut_where_a_normalizer_puts_a_space_before_every_text() -> None:
    """Llama 2's does: the question's text would begin with one too."""
    source = CHAT_FORMATS["gemma-3"].tokenizer()
    source.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    info = prompt_info(source, MCQ)
    assert source.convert_ids_to_tokens(list(info.prefix_ids)) == ["<bos>", "<start_of_turn>"]
    assert MCQ.system in info.question_prefix
