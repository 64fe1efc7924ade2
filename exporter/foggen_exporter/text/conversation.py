"""How to talk to a model: everything its tokenizer and chat template say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from foggen_exporter.text.chat_template import changing_line, keep_for_control, turn_end
from foggen_exporter.text.prompt import prompt_info, template_info
from foggen_exporter.text.reply_template import Template
from foggen_exporter.text.tokenizer_files import load_tokenizer
from foggen_runtime.bundle.manifest import PromptInfo, TemplateInfo


@dataclass(frozen=True)
class Speaker:
    """Whose tokenizer it is.

    Attributes:
        checkpoint: Its directory.
        adapter: The directory of an adapter that is merged into it.
        config: The model's, which may name the tokenizer's class.
        vocab_size: How many rows the embedding has.
        eos_token_ids: What ends a text, according to the checkpoint's configuration.
    """

    checkpoint: Path
    adapter: Path | None
    config: PretrainedConfig
    vocab_size: int
    eos_token_ids: tuple[int, ...]


@dataclass(frozen=True)
class Conversation:
    """What a bundle knows about its model's text.

    Attributes:
        tokenizer: With one chat template.
        prompt: For the manifest.
        template: For the manifest.
        eos_token_ids: What ends a reply: the checkpoint's own, and what its chat template ends a
            turn with.
        notes: What to tell the user.
    """

    tokenizer: PreTrainedTokenizerBase
    prompt: PromptInfo
    template: TemplateInfo
    eos_token_ids: tuple[int, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, speaker: Speaker, template: Template) -> Self:
        """Read a tokenizer and derive everything small.

        Raises:
            CheckpointError: The tokenizer does not fit the model.
            ConfigError: The template does not fit the tokenizer.
        """
        tokenizer, notes = load_tokenizer(
            speaker.checkpoint, speaker.vocab_size, speaker.config, speaker.adapter
        )
        ends, end = speaker.eos_token_ids, turn_end(tokenizer, template)
        if (line := changing_line(tokenizer, template)) is not None:
            notes += (
                f"Warning: the chat template writes the date or time, now {line!r}, and the "
                "bundle will keep writing that. If the model should not see an old date, put "
                "a fixed text into the template and export again",
            )
        if end is not None and end not in ends:
            token = tokenizer.convert_ids_to_tokens(end)
            notes += (
                f"Warning: the chat template ends a turn with {token!r}, id {end}, which is not "
                f"among the checkpoint's eos_token_id, {list(ends)}: the bundle ends answers at it "
                "too. Add it to generation_config.json for others that run this checkpoint",
            )
            ends = (*ends, end)
        keep_for_control(tokenizer, ends)
        prompt = prompt_info(tokenizer, template)
        return cls(tokenizer, prompt, template_info(tokenizer, template), ends, notes)
