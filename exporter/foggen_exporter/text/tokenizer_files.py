"""A checkpoint's tokenizer, read and written into a bundle."""

import json
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from foggen_exporter.text.chat_template import fast, select_chat_template
from foggen_exporter.text.prompt import check_prompt, save_tokenizer
from foggen_exporter.text.reply_template import Template
from foggen_exporter.text.token_tables import token_tables, write_tables
from foggen_exporter.weights.checkpoint_files import read_json_object
from foggen_runtime.bundle.manifest import TOKEN_TABLES_FILE, TOKENIZER_FILE, PromptInfo
from foggen_runtime.errors import CheckpointError
from foggen_runtime.text.tokenizer import QuestionTokenizer

_CONFIG_FILE = "tokenizer_config.json"
_VOCABULARY_FILES = (TOKENIZER_FILE, "tokenizer.model", "vocab.json")
_CHAT_TEMPLATE_FILE = "chat_template.jinja"
# What may differ between two files of one tokenizer: whoever saved it set this, and it is not used
# here.
_UNUSED = ("truncation", "padding", "post_processor")


def load_tokenizer(
    checkpoint: Path, vocab_size: int, config: PretrainedConfig, adapter: Path | None = None
) -> tuple[PreTrainedTokenizerBase, tuple[str, ...]]:
    """Read the tokenizer a model was trained with, with its default chat template.

    That is the checkpoint's, or the adapter's own if it has one.

    Args:
        checkpoint: The directory.
        vocab_size: How many rows the embedding has.
        config: The model's, which may name the tokenizer's class.
        adapter: The directory of an adapter that is merged into the checkpoint.

    Returns:
        The tokenizer, and what to tell the user about it.

    Raises:
        CheckpointError: There is no tokenizer or it cannot be read, none of its chat templates is
            the default, it has more tokens than the model, or the adapter's gives the checkpoint's
            tokens other ids.
    """
    tokenizer, notes = _read(checkpoint, config)
    _check_ids(tokenizer, checkpoint, vocab_size)
    if adapter is None:
        return tokenizer, notes
    if any((adapter / name).exists() for name in _VOCABULARY_FILES):
        adapted, more = _read(adapter, config)
        _check_ids(adapted, adapter, vocab_size)
        _check_same_ids(tokenizer.get_vocab(), adapted.get_vocab(), adapter)
        if adapted.chat_template is None:
            adapted.chat_template = tokenizer.chat_template
        return adapted, (*notes, *more, *_differences(tokenizer, adapted, adapter))
    if (template := _chat_template(adapter)) and template != tokenizer.chat_template:
        tokenizer.chat_template = template
        notes += (_use_of_chat_template(adapter),)
    return tokenizer, notes


def write_tokenizer(
    tokenizer: PreTrainedTokenizerBase, template: Template, prompt: PromptInfo, directory: Path
) -> QuestionTokenizer:
    """Write the tokenizer, and check that the runtime gets the same ids from it.

    Raises:
        ConfigError: They give other ids for the prompt.
    """
    save_tokenizer(tokenizer, directory)
    path = directory / TOKENIZER_FILE
    readings = [QuestionTokenizer.from_file(path)]
    if tables := token_tables(json.loads(path.read_text(encoding="utf-8"))):
        write_tables(tables, directory / TOKEN_TABLES_FILE)
        readings.append(QuestionTokenizer.from_file(directory / TOKEN_TABLES_FILE))
    for reading in readings:
        check_prompt(tokenizer, template, partial(reading.prompt_ids, prompt))
    return readings[-1]


def _read(
    directory: Path, config: PretrainedConfig
) -> tuple[PreTrainedTokenizerBase, tuple[str, ...]]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, config=config)
    except Exception as error:  # tokenizers raises bare Exception, transformers any of a dozen
        raise CheckpointError(
            f"{directory}: no usable tokenizer: {error}{_likely_cause(directory)}"
        ) from error
    # If its files are missing, transformers 5 makes up one without any words.
    if len(tokenizer.get_vocab()) == len(tokenizer.added_tokens_decoder):
        raise CheckpointError(
            f"{directory}: has no tokenizer: {_missing(directory) or 'its vocabulary is empty'}; "
            "copy the tokenizer's files from the model it was tuned from"
        )
    return tokenizer, select_chat_template(tokenizer, str(directory))


def _missing(directory: Path) -> str:
    names = [name for name in (TOKENIZER_FILE, _CONFIG_FILE) if not (directory / name).exists()]
    return f"{' and '.join(names)} must be there" if names else ""


def _likely_cause(directory: Path) -> str:
    if not (directory / TOKENIZER_FILE).exists():
        return f"; {_missing(directory)}"
    path, installed = directory / "config.json", version("transformers")
    saved_by = str(read_json_object(path).get("transformers_version")) if path.exists() else ""
    major = saved_by.partition(".")[0]
    if major.isdecimal() and int(major) > int(installed.partition(".")[0]):
        return (
            f"; transformers {saved_by} saved the checkpoint and {installed} is installed: "
            f"pip install -U 'transformers>={major}'"
        )
    return ""


def _check_ids(tokenizer: PreTrainedTokenizerBase, directory: Path, vocab_size: int) -> None:
    largest = max(tokenizer.get_vocab().values())
    if largest >= vocab_size:
        raise CheckpointError(
            f"{directory}: the tokenizer's ids must be below vocab_size {vocab_size}, "
            f"the largest is {largest}"
        )


def _check_same_ids(ours: Mapping[str, int], theirs: Mapping[str, int], adapter: Path) -> None:
    for token, token_id in ours.items():
        if theirs.get(token, token_id) != token_id:
            raise CheckpointError(
                f"{adapter}: the tokenizer must keep the ids of the checkpoint's tokens, gives "
                f"{token!r} {theirs[token]} and not {token_id}; the adapter was trained on another "
                "base"
            )


def _differences(
    ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase, adapter: Path
) -> list[str]:
    """Say which parts of an adapter's tokenizer are used instead of the checkpoint's."""
    notes = []
    if _tokens(ours) != _tokens(theirs):
        notes.append(f"{adapter} has a tokenizer of its own: the bundle uses it")
    if ours.chat_template != theirs.chat_template:
        notes.append(_use_of_chat_template(adapter))
    return notes


def _use_of_chat_template(adapter: Path) -> str:
    return f"{adapter} has a chat template of its own: the bundle uses it"


def _tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    document = json.loads(fast(tokenizer).backend_tokenizer.to_str())
    return {name: value for name, value in document.items() if name not in _UNUSED}


def _chat_template(directory: Path) -> str | None:
    """Read a chat template that lies in a directory without a tokenizer."""
    path, config = directory / _CHAT_TEMPLATE_FILE, directory / _CONFIG_FILE
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = read_json_object(config).get("chat_template") if config.exists() else None
    return template if isinstance(template, str) else None
