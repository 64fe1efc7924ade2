"""A tokenizer's chat template: which one, what it writes, and what ends a turn."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, tzinfo
from itertools import zip_longest
from typing import Self

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from foggen_exporter.text.reply_template import Template
from foggen_runtime.errors import CheckpointError
from foggen_runtime.text.added_tokens import is_control

Message = dict[str, str]

_SOME_REPLY = "FOGGEN-REPLY"
# Two times that differ in every field.
_CLOCKS = (datetime(2001, 2, 3, 4, 5, 6, 7), datetime(2032, 11, 29, 17, 48, 59, 999_999))


def select_chat_template(tokenizer: PreTrainedTokenizerBase, where: str) -> tuple[str, ...]:
    """If a checkpoint names several chat templates, keep only the default.

    Args:
        tokenizer: Changed in place.
        where: What messages call the place it was read from.

    Returns:
        What to tell the user.

    Raises:
        CheckpointError: None of them is the default.
    """
    named = tokenizer.chat_template
    if not isinstance(named, dict):
        return ()
    names = ", ".join(sorted(named))
    if "default" not in named:
        raise CheckpointError(
            f"{where}: chat template: one must be the default, there are only {names}; save the "
            "one that the model answers questions with as chat_template.jinja"
        )
    tokenizer.chat_template = named["default"]
    return (f"{where} has the chat templates {names}: the bundle uses default",)


def fast(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerFast:
    """Return the tokenizer if it is one of the `tokenizers` library.

    Raises:
        CheckpointError: It is not.
    """
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise CheckpointError(
            "tokenizer: must be one with a tokenizer.json (a fast tokenizer), "
            f"is a {type(tokenizer).__name__}"
        )
    return tokenizer


def render(tokenizer: PreTrainedTokenizerBase, template: Template, question: str) -> str:
    """Write the prompt for a question.

    Raises:
        CheckpointError: There is no chat template, or it refuses the messages.
    """
    return _render(tokenizer, _messages(template, question))


def changing_line(tokenizer: PreTrainedTokenizerBase, template: Template) -> str | None:
    """Return the first line of the prompt that depends on the clock, as it is now.

    Raises:
        CheckpointError: As `render`.
    """
    texts = [render(tokenizer, template, "?")]
    for moment in _CLOCKS:
        with _clock_at(moment):
            texts.append(render(tokenizer, template, "?"))
    for now, early, late in zip_longest(*(text.split("\n") for text in texts), fillvalue=""):
        if early != late:
            return now
    return None


def turn_end(tokenizer: PreTrainedTokenizerBase, template: Template) -> int | None:
    """Return the added token that the chat template puts after a reply, if it does."""
    messages = [*_messages(template, "?"), {"role": "assistant", "content": _SOME_REPLY}]
    try:
        text = _render(tokenizer, messages)
    except CheckpointError:  # a template without replies
        return None
    end = text.rfind(_SOME_REPLY) + len(_SOME_REPLY)
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    added = tokenizer.added_tokens_decoder
    for token_id, (start, _) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
        if start >= end and token_id in added:
            return int(token_id) if not text[end:start].strip() else None
    return None


def keep_for_control(tokenizer: PreTrainedTokenizerBase, ends: Iterable[int]) -> None:
    """Mark as special the control tokens that nothing else shows to be such.

    Args:
        tokenizer: Changed in place, also by what its own configuration names.
        ends: Tokens that end a text.
    """
    added, controls = tokenizer.added_tokens_decoder, control_ids(tokenizer)
    named = set(getattr(tokenizer, "chat_control_tokens", None) or ())
    for token_id, token in added.items():
        if token_id not in controls and (token_id in ends or token.content in named):
            token.special = True
            tokenizer.add_tokens([token], special_tokens=True)


def control_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids that only the chat template may write."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(
        token_id for token_id, token in added if is_control(token.content, special=token.special)
    )


@contextmanager
def _clock_at(moment: datetime) -> Iterator[None]:
    """Stop the clock that templates see; transformers offers no other way to set it."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(moment.timestamp(), tz)

    names = vars(chat_template_utils)
    real = names["datetime"]
    names["datetime"] = Stopped
    try:
        yield
    finally:
        names["datetime"] = real


def _messages(template: Template, question: str) -> list[Message]:
    system = [{"role": "system", "content": template.system}] if template.system else []
    return [*system, {"role": "user", "content": question}]


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str:
    """Write messages, and the beginning of a reply after a question."""
    if fast(tokenizer).chat_template is None:
        raise CheckpointError("chat template: the tokenizer has none")
    asks = messages[-1]["role"] == "user"
    try:
        # Templates without thinking ignore the variable.
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=asks, enable_thinking=False
        )
    except Exception as error:  # a template's code may raise any
        roles = " and ".join(message["role"] for message in messages)
        raise CheckpointError(f"chat template: cannot render {roles} messages: {error}") from error
    return str(text)
