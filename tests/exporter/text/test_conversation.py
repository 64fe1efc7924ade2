"""What fine-tuning tools leave behind in a checkpoint's tokenizer and chat template."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from foggen_exporter.text import tokenizer_files
from foggen_exporter.text.conversation import Conversation, Speaker
from foggen_exporter.text.prompt import prompt_info
from foggen_exporter.text.reply_template import load_template
from foggen_exporter.text.tokenizer_files import write_tokenizer
from foggen_runtime.errors import CheckpointError
from tests.conftest import TINY
from tests.support.checkpoints import edit_json
from tests.support.tokenizers import tiny_tokenizer

MCQ = load_template("mcq")
END = 1128
VOCAB_SIZE = 1152
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    for name in (*TOKENIZER_FILES, "config.json"):
        shutil.copy(TINY / "checkpoint" / name, directory)
    return directory


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    directory = tmp_path / "adapter"
    directory.mkdir()
    return directory


def conversation(
    checkpoint: Path,
    adapter: Path | None = None,
    *,
    vocab_size: int = VOCAB_SIZE,
    ends: tuple[int, ...] = (END,),
) -> Conversation:
    config = AutoConfig.for_model("qwen3")
    return Conversation.of(Speaker(checkpoint, adapter, config, vocab_size, ends), MCQ)


def with_tokenizer(directory: Path, change: Callable[[PreTrainedTokenizerBase], object]) -> None:
    """Save the tiny tokenizer after a change, as tools do that tune a model."""
    tokenizer = AutoTokenizer.from_pretrained(TINY / "checkpoint")
    change(tokenizer)
    tokenizer.save_pretrained(directory)


def test_an_ordinary_checkpoint_gives_no_notes(checkpoint: Path) -> None:
    read = conversation(checkpoint)
    assert (read.notes, read.eos_token_ids) == ((), (END,))


def test_added_words_are_checked_in_both_readings(checkpoint: Path, tmp_path: Path) -> None:
    words = [AddedToken("instrument"), AddedToken("mg", single_word=True, lstrip=True)]
    with_tokenizer(checkpoint, lambda tokenizer: tokenizer.add_tokens(words))
    read = conversation(checkpoint, vocab_size=VOCAB_SIZE + 2)
    written = write_tokenizer(read.tokenizer, MCQ, read.prompt, tmp_path)
    plain = "an instrument of 5 mg,"
    ids = written.encode(f"{plain}<think>")
    assert {VOCAB_SIZE, VOCAB_SIZE + 1} <= set(ids)
    assert VOCAB_SIZE - 2 not in ids
    assert ids[: len(written.encode(plain)) - 1] == read.tokenizer.encode(plain)[:-1]


@pytest.mark.parametrize("form", ["directory", "list"])
def test_the_default_of_several_chat_templates_is_used(
    checkpoint: Path, tmp_path: Path, form: str
) -> None:
    default = (checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    name_chat_templates(checkpoint, form, {"default": default, "tool_use": "x"})
    read = conversation(checkpoint)
    assert read.notes == (
        f"{checkpoint} has the chat templates default, tool_use: the bundle uses default",
    )
    assert read.prompt == prompt_info(AutoTokenizer.from_pretrained(TINY / "checkpoint"), MCQ)
    (tmp_path / "bundle").mkdir()
    write_tokenizer(read.tokenizer, MCQ, read.prompt, tmp_path / "bundle")
    assert all(path.is_file() for path in (tmp_path / "bundle").iterdir())
    assert (tmp_path / "bundle/chat_template.jinja").read_text(encoding="utf-8") == default


@pytest.mark.parametrize("form", ["directory", "list"])
def test_chat_templates_without_a_default_are_named(checkpoint: Path, form: str) -> None:
    name_chat_templates(checkpoint, form, {"rag": "x", "tool_use": "x"})
    with pytest.raises(
        CheckpointError, match=r"chat template: one must be the default, .* only rag, tool_use"
    ):
        conversation(checkpoint)


def name_chat_templates(checkpoint: Path, form: str, templates: dict[str, str]) -> None:
    (checkpoint / "chat_template.jinja").unlink()
    if form == "list":
        listed = [{"name": name, "template": text} for name, text in templates.items()]
        edit_json(checkpoint / "tokenizer_config.json", lambda c: c.update(chat_template=listed))
        return
    folder = checkpoint / "additional_chat_templates"
    folder.mkdir()
    for name, text in templates.items():
        path = folder / f"{name}.jinja"
        if name == "default":
            path = checkpoint / "chat_template.jinja"
        path.write_text(text, encoding="utf-8")


def test_an_adapters_chat_template_is_used(checkpoint: Path, adapter: Path) -> None:
    (adapter / "chat_template.jinja").write_text(PLAIN, encoding="utf-8")
    read = conversation(checkpoint, adapter)
    assert read.notes == (f"{adapter} has a chat template of its own: the bundle uses it",)
    assert read.tokenizer.chat_template == PLAIN
    reply = read.tokenizer.encode("<|im_start|>assistant\n")
    assert list(read.prompt.suffix_ids[-len(reply) :]) == reply


def test_an_adapters_chat_template_is_found_in_its_configuration(
    checkpoint: Path, adapter: Path
) -> None:
    (adapter / "tokenizer_config.json").write_text(json.dumps({"chat_template": PLAIN}))
    assert conversation(checkpoint, adapter).tokenizer.chat_template == PLAIN


def test_an_adapter_with_the_checkpoints_tokenizer_changes_nothing(
    checkpoint: Path, adapter: Path
) -> None:
    with_tokenizer(adapter, lambda tokenizer: setattr(tokenizer, "padding_side", "left"))
    assert conversation(checkpoint, adapter).notes == ()


def test_an_adapters_tokenizer_is_used(checkpoint: Path, adapter: Path) -> None:
    with_tokenizer(adapter, lambda tokenizer: tokenizer.add_tokens(["instrument"]))
    read = conversation(checkpoint, adapter, vocab_size=VOCAB_SIZE + 1)
    assert read.notes == (f"{adapter} has a tokenizer of its own: the bundle uses it",)
    assert VOCAB_SIZE in read.tokenizer.encode("an instrument")


def test_an_adapters_tokenizer_without_chat_template_takes_the_checkpoints(
    checkpoint: Path, adapter: Path
) -> None:
    with_tokenizer(adapter, lambda tokenizer: setattr(tokenizer, "chat_template", None))
    assert conversation(checkpoint, adapter).prompt == conversation(checkpoint).prompt


def test_an_adapters_tokenizer_that_does_not_fit_is_refused(
    checkpoint: Path, adapter: Path
) -> None:
    with_tokenizer(adapter, lambda tokenizer: tokenizer.add_tokens(["instrument"]))
    with pytest.raises(CheckpointError, match=r"adapter: .* below vocab_size 1152, .* is 1152"):
        conversation(checkpoint, adapter)

    def exchange(document: dict[str, Any]) -> None:
        vocabulary = document["model"]["vocab"]
        vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]

    with_tokenizer(adapter, lambda tokenizer: None)
    edit_json(adapter / "tokenizer.json", exchange)
    with pytest.raises(
        CheckpointError, match=r"the ids of .*, gives '[ab]' \d+ and not \d+; .*base"
    ):
        conversation(checkpoint, adapter)


def test_what_ends_a_turn_ends_an_answer(checkpoint: Path) -> None:
    read = conversation(checkpoint, ends=(1126,))
    assert read.eos_token_ids == (1126, END)
    (note,) = read.notes
    assert "ends a turn with '<|im_end|>', id 1128" in note
    assert "eos_token_id, [1126]" in note


@pytest.mark.parametrize(
    "reply",
    [
        "{{ m.content }}\n",
        "{{ m.content }} (said) <|im_end|>\n",
        "{{ raise_exception('no replies') }}",
    ],
)
def test_a_turn_that_no_token_ends_adds_none(checkpoint: Path, reply: str) -> None:
    asked = "{{ m.content }}<|im_end|>\n"
    turns = "{% if m.role == 'assistant' %}" + reply + "{% else %}" + asked + "{% endif %}"
    template = PLAIN.replace(asked, turns)
    (checkpoint / "chat_template.jinja").write_text(template, encoding="utf-8")
    read = conversation(checkpoint, ends=(1126,))
    assert (read.eos_token_ids, read.notes) == ((1126,), ())


@pytest.mark.parametrize("named", [False, True])
def test_a_word_that_ends_turns_is_a_control_token(
    checkpoint: Path, tmp_path: Path, named: bool
) -> None:
    with_tokenizer(checkpoint, lambda tokenizer: tokenizer.add_tokens(["#END", "#USER"]))
    template = PLAIN.replace("<|im_end|>", "#END")
    (checkpoint / "chat_template.jinja").write_text(template, encoding="utf-8")
    if named:
        config = checkpoint / "tokenizer_config.json"
        edit_json(config, lambda c: c.update(chat_control_tokens=["#USER"]))
    read = conversation(checkpoint, vocab_size=VOCAB_SIZE + 2)
    assert read.eos_token_ids == (END, VOCAB_SIZE)
    written = write_tokenizer(read.tokenizer, MCQ, read.prompt, tmp_path)
    assert VOCAB_SIZE not in written.encode("a #END")
    assert (VOCAB_SIZE + 1 in written.encode("a #USER")) != named


DATED = "<|im_start|>It is {{ strftime_now('FORMAT') }}.\nNever mind.<|im_end|>" + PLAIN


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d %b", "%H", "%A", "%-I %p", "%j"])
def test_text_that_goes_by_the_clock_is_named(checkpoint: Path, form: str) -> None:
    dated = DATED.replace("FORMAT", form)
    (checkpoint / "chat_template.jinja").write_text(dated, encoding="utf-8")
    (note,) = conversation(checkpoint).notes
    assert "writes the date or time, now '<|im_start|>It is " in note
    assert "Never mind" not in note


def test_text_that_is_never_the_same_is_refused(checkpoint: Path) -> None:
    dated = DATED.replace("FORMAT", "%f")
    (checkpoint / "chat_template.jinja").write_text(dated, encoding="utf-8")
    with pytest.raises(CheckpointError, match="only the question may change"):
        conversation(checkpoint)


def test_a_clock_that_decides_what_is_written_is_noticed(checkpoint: Path) -> None:
    template = (
        "<|im_start|>{% if strftime_now('%Y')|int > 2020 %}Modern{% endif %}<|im_end|>" + PLAIN
    )
    (checkpoint / "chat_template.jinja").write_text(template, encoding="utf-8")
    (note,) = conversation(checkpoint).notes
    assert "now '<|im_start|>Modern<|im_end|>" in note


def test_a_date_that_is_only_written_elsewhere_is_no_matter(checkpoint: Path) -> None:
    template = PLAIN + "{% if tools %}{{ strftime_now('%Y') }}{% endif %}"
    (checkpoint / "chat_template.jinja").write_text(template, encoding="utf-8")
    assert conversation(checkpoint).notes == ()


def test_a_tokenizer_that_cannot_be_parsed_is_named(checkpoint: Path) -> None:
    edit_json(checkpoint / "tokenizer.json", lambda c: c["model"].update(type="NewBPE"))
    with pytest.raises(CheckpointError, match=r"checkpoint: no usable tokenizer: data did not"):
        conversation(checkpoint)


def test_an_older_transformers_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_json(checkpoint / "config.json", lambda c: c.update(transformers_version="5.23.0"))
    edit_json(checkpoint / "tokenizer_config.json", lambda c: c.update(tokenizer_class="NewOne"))
    edit_json(checkpoint / "tokenizer.json", lambda c: c["model"].update(type="NewBPE"))
    monkeypatch.setattr(tokenizer_files, "version", lambda _: "4.55.4")
    with pytest.raises(
        CheckpointError, match=r"transformers 5.23.0 saved .* 4.55.4 is installed: pip install -U"
    ):
        conversation(checkpoint)


@pytest.mark.parametrize(
    ("kept", "missing"),
    [
        (("tokenizer_config.json", "chat_template.jinja"), "tokenizer.json must be there"),
        ((), "tokenizer.json and tokenizer_config.json must be there"),
    ],
)
def test_missing_tokenizer_files_are_named(
    checkpoint: Path, kept: tuple[str, ...], missing: str
) -> None:
    config = checkpoint / "tokenizer_config.json"
    edit_json(config, lambda c: c.update(tokenizer_class="Qwen2Tokenizer"))
    for name in set(TOKENIZER_FILES) - set(kept):
        (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=missing):
        conversation(checkpoint)


@pytest.mark.parametrize("flag", ["lstrip", "rstrip"])
def test_control_tokens_that_strip_the_question_are_named(flag: str) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_tokens(
        [AddedToken("<|q|>", special=True, normalized=False, **{flag: True})], special_tokens=True
    )
    tokenizer.chat_template = "<|q|>{{ messages[-1].content }}<|q|>"
    with pytest.raises(CheckpointError, match=rf"'<\|q\|>' must not swallow .* {flag} is true"):
        prompt_info(tokenizer, MCQ)
    tokenizer.chat_template = "<|q|>{{ messages[-1].content | trim }}<|q|>"
    assert prompt_info(tokenizer, MCQ).strip_question
