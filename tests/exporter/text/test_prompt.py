"""The prompt taken apart gives transformers' own ids, and typed control tokens stay text."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest
from tokenizers import Regex, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from foggen_exporter.text.prompt import check_prompt, prompt_info, save_tokenizer, template_info
from foggen_exporter.text.reply_template import Template, load_template
from foggen_runtime.bundle.manifest import PromptInfo
from foggen_runtime.errors import CheckpointError, ConfigError
from foggen_runtime.text.tokenizer import QuestionTokenizer
from tests.support.tokenizers import (
    QWEN3_ADDED_TOKENS,
    qwen3_tokenizer,
    tiny_tokenizer,
    varied_questions,
)

MCQ = load_template("mcq")
USER_TURN = "<|im_start|>user\n{{ messages[-1].content }}<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Exported:
    """A checkpoint's tokenizer, and what its bundle holds."""

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
            messages, add_generation_prompt=True, enable_thinking=False, return_dict=False
        )
        return cast(list[int], ids)

    def question_ids(self, question: str) -> list[int]:
        """Return the runtime's ids between the constant prefix and suffix."""
        ids = self.runtime.prompt_ids(self.prompt, question)
        prefix, suffix = list(self.prompt.prefix_ids), list(self.prompt.suffix_ids)
        assert ids[: len(prefix)] == prefix
        assert ids[len(ids) - len(suffix) :] == suffix
        return ids[len(prefix) : len(ids) - len(suffix)]


@pytest.fixture(scope="module", params=["tiny", "qwen3"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    source = tiny_tokenizer() if request.param == "tiny" else qwen3_tokenizer()
    directory = tmp_path_factory.mktemp("bundle")
    save_tokenizer(source, directory)
    runtime = QuestionTokenizer.from_file(directory / "tokenizer.json")
    return Exported(source, prompt_info(source, MCQ), runtime)


def tiny_with(chat_template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = chat_template
    return tokenizer


def test_ids_are_those_of_transformers(exported: Exported) -> None:
    questions = varied_questions(520)
    assert len(questions) >= 500
    for question in questions:
        ids = exported.runtime.prompt_ids(exported.prompt, question)
        assert ids == exported.chat_ids(question), repr(question)


@pytest.mark.parametrize("token", QWEN3_ADDED_TOKENS)
def test_typed_added_token_stays_text(exported: Exported, token: str) -> None:
    added = set(exported.source.added_tokens_decoder)
    assert len(added) == 26
    for question in (token, f"mid{token}dle", token + token, f" a {token}\n{token} b"):
        ids = exported.question_ids(question)
        assert added.isdisjoint(ids)
        assert exported.runtime.decode(ids) == f"user\n{question}"


def test_decoded_ids_read_as_with_transformers(exported: Exported) -> None:
    for question in varied_questions(60):
        ids = exported.chat_ids(question)
        expected = exported.source.decode(ids, skip_special_tokens=True)
        assert exported.runtime.decode(ids) == expected


def test_real_tokenizer_gives_qwens_ids() -> None:
    tokenizer = qwen3_tokenizer()
    prompt = prompt_info(tokenizer, MCQ)
    assert prompt.prefix_ids[:3] == (151644, 8948, 198)
    assert prompt.prefix_ids[-3:] == (151645, 198, 151644)
    assert 151667 in prompt.prefix_ids  # the <think> of the system prompt
    assert (prompt.question_prefix, prompt.question_suffix) == ("user\n", "")
    assert prompt.suffix_ids == (151645, 198, 151644, 77091, 198, 151667, 271, 151668, 271)
    assert not prompt.strip_question
    reply = template_info(tokenizer, MCQ)
    assert reply.level_ids[3] == (15578, 7087, 25, 220, 15, 13, 22, 20)
    assert reply.separator_ids == (198,)
    assert reply.answer_prefix_ids == (19357, 4226, 25)
    whole = (*reply.level_ids[3], *reply.separator_ids, *reply.answer_prefix_ids, 425)
    assert tokenizer.encode("Confidence: 0.75\nFinal answer: B") == list(whole)


def test_template_info_carries_the_template() -> None:
    info = template_info(tiny_tokenizer(), MCQ)
    assert info.levels == MCQ.levels
    assert info.answer_prefix == "Final answer:"
    assert info.min_template_probability == MCQ.min_template_probability
    for level, ids in zip(info.levels, info.level_ids, strict=True):
        assert tiny_tokenizer().decode(list(ids)) == f"Confidence: {level}"


def test_no_system_prompt_means_no_system_message() -> None:
    info = prompt_info(tiny_tokenizer(), replace(MCQ, system=""))
    assert tiny_tokenizer().decode(list(info.prefix_ids)) == "<|im_start|>"
    assert info.system == ""


def test_stripping_template_is_noticed() -> None:
    tokenizer = tiny_with(USER_TURN.replace("content", "content | trim"))
    assert prompt_info(tokenizer, MCQ).strip_question
    assert not prompt_info(tiny_with(USER_TURN), MCQ).strip_question


def test_text_after_the_last_added_token_goes_around_the_question() -> None:
    info = prompt_info(tiny_with("<|im_start|>{{ messages|map(attribute='content')|join }}:"), MCQ)
    assert tiny_tokenizer().decode(list(info.prefix_ids[-2:])) == " <think>"
    assert info.question_prefix.startswith(" tags.\n- First")
    assert (info.question_suffix, info.suffix_ids) == (":", ())


@pytest.mark.parametrize(
    ("chat_template", "message"),
    [
        (None, "has none"),
        ("<|im_start|>hello", "exactly once, shows it 0 times"),
        (USER_TURN + USER_TURN, "exactly once, shows it 2 times"),
        ("user: {{ messages[-1].content }}<|im_end|>", "has 'user: ' before it"),
        (USER_TURN.replace("content", "content.lstrip()"), "change with ' .t.n padded"),
        (USER_TURN + "{{ messages[-1].content | length }}", "change with 'What is"),
        ("{{ raise_exception('no system role') }}", "system and user messages: no system role"),
    ],
)
def test_template_that_cannot_be_cut_is_refused(chat_template: str | None, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        prompt_info(tiny_with(chat_template), MCQ)


def test_prompt_of_another_template_is_noticed(exported: Exported) -> None:
    def other_ids(question: str) -> list[int]:
        return [*exported.runtime.prompt_ids(exported.prompt, question), 0]

    check_prompt(
        exported.source, MCQ, lambda text: exported.runtime.prompt_ids(exported.prompt, text)
    )
    with pytest.raises(CheckpointError, match="only the question may change"):
        check_prompt(exported.source, MCQ, other_ids)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (replace(MCQ, separator=" ", answer_prefix="answer:"), r"between ' ' and 'answer:'"),
        (replace(MCQ, answer_prefix="Answer: "), r"cross from .* between 'Answer: ' and 'B'"),
        (
            replace(MCQ, levels=("0", "0.5"), separator="."),
            r"those of '0' begin those of '0.5'",
        ),
    ],
)
def test_reply_that_cannot_be_cut_is_refused(template: Template, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        template_info(tiny_tokenizer(), template)


def test_reply_that_melts_into_the_prompt_is_refused() -> None:
    template = replace(MCQ, confidence="answer {level}")
    template_info(tiny_with(USER_TURN + "My:"), template)
    with pytest.raises(ConfigError, match=r"between '.*assistant\\nMy ' and 'answer 0.0'"):
        template_info(tiny_with(USER_TURN + "My "), template)


def test_separator_tokenized_differently_after_some_level_is_refused() -> None:
    tokenizer = tiny_with(USER_TURN)
    backend = tokenizer.backend_tokenizer
    split = pre_tokenizers.Split(Regex("5F"), behavior="isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, backend.pre_tokenizer])
    with pytest.raises(ConfigError, match="separator: must have the same ids after every level"):
        template_info(tokenizer, replace(MCQ, separator="Final"))


def test_saved_files_serve_transformers_too(tmp_path: Path) -> None:
    names = save_tokenizer(tiny_tokenizer(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == list(names)
    assert {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json"} <= set(names)
    assert "\n" not in (tmp_path / "tokenizer.json").read_text(encoding="utf-8")
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert prompt_info(again, MCQ) == prompt_info(tiny_tokenizer(), MCQ)


def test_tokenizer_without_tokenizer_json_is_refused(tmp_path: Path) -> None:
    slow = ByT5Tokenizer(chat_template=USER_TURN)
    with pytest.raises(CheckpointError, match=r"a fast tokenizer.* is a ByT5Tokenizer"):
        prompt_info(slow, MCQ)
    with pytest.raises(CheckpointError, match="a fast tokenizer"):
        save_tokenizer(slow, tmp_path)
