"""A checkpoint's tokenizer, read and written into a bundle."""

import json
from functools import partial
from pathlib import Path

from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from foggen_exporter.prompt import check_prompt, save_tokenizer
from foggen_exporter.template import Template
from foggen_exporter.token_tables import token_tables, write_tables
from foggen_runtime.errors import CheckpointError
from foggen_runtime.manifest import TOKEN_TABLES_FILE, TOKENIZER_FILE, PromptInfo
from foggen_runtime.tokenizer import QuestionTokenizer


def load_tokenizer(
    checkpoint: Path, vocab_size: int, config: PretrainedConfig
) -> PreTrainedTokenizerBase:
    """Read a checkpoint's tokenizer, and check that the embedding has a row for every id.

    Args:
        checkpoint: The directory.
        vocab_size: How many rows the embedding has.
        config: The model's, which may tell the tokenizer's class.

    Raises:
        CheckpointError: There is no tokenizer, or it has more tokens than the model.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True, config=config)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{checkpoint}: no usable tokenizer: {error}") from error
    largest = max(tokenizer.get_vocab().values())
    if largest >= vocab_size:
        raise CheckpointError(
            f"{checkpoint}: the tokenizer's ids must be below vocab_size {vocab_size}, "
            f"the largest is {largest}"
        )
    return tokenizer


def write_tokenizer(
    tokenizer: PreTrainedTokenizerBase, template: Template, prompt: PromptInfo, directory: Path
) -> QuestionTokenizer:
    """Write the tokenizer, and check that the runtime's readings of it give the same ids.

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
