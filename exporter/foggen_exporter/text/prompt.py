"""From a tokenizer and its chat template to the manifest's prompt and template.

Text is cut only where no token crosses the cut: around control tokens, or where encoding the text
up to the cut gives the same ids as encoding all of it.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from string import ascii_uppercase

from transformers import PreTrainedTokenizerBase

from foggen_exporter.text.chat_template import control_ids, fast, render
from foggen_exporter.text.reply_template import Template
from foggen_runtime.bundle.manifest import HeadInfo, PromptInfo, TemplateInfo
from foggen_runtime.errors import CheckpointError, ConfigError
from foggen_runtime.text.letters import letter_ids

_SENTINEL = "FOGGEN-QUESTION"
_SOME_ANSWER = "B"
_PROBES = (
    "What is 2+2?\nA) 3\nB) 4",
    " \t\n padded on both sides \r\n\t ",
    "\n\nline breaks first",
    "\u0301combining first, digits last 2024",
    "Қазақстан? Қай қала? 年 😀",
)


def prompt_info(tokenizer: PreTrainedTokenizerBase, template: Template) -> PromptInfo:
    """Take the chat template apart around the question.

    Raises:
        CheckpointError: The tokenizer has no chat template, or one that cannot be cut: it does not
            show the question exactly once, has no control token before it, or changes its text.
    """
    text = render(tokenizer, template, _SENTINEL)
    start = _question_start(text)
    end = start + len(_SENTINEL)
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
    controls = control_ids(tokenizer)
    found = [i for i, token_id in enumerate(ids) if token_id in controls]
    before = [i for i in found if offsets[i][1] <= start]
    after = [i for i in found if offsets[i][0] >= end]
    if not before:
        raise CheckpointError(
            "chat template: must have a control token before the question, to cut the prompt at; "
            f"has {text[:start]!r} before it"
        )
    suffix = after[0] if after else len(ids)
    prefix = before[-1] + 1
    if template.system and template.system.strip() in text[offsets[prefix][0] : start]:
        prefix = _folded_prefix(tokenizer, text[:start], offsets) or prefix
    info = PromptInfo(
        system=template.system,
        prefix_ids=tuple(ids[:prefix]),
        question_prefix=text[offsets[prefix - 1][1] : start],
        question_suffix=text[end : offsets[suffix][0] if after else None],
        suffix_ids=tuple(ids[suffix:]),
        strip_question=_strips_question(tokenizer, template),
    )
    _check_edges(tokenizer, info)
    check_prompt(tokenizer, template, lambda question: _prompt_ids(tokenizer, info, question))
    return info


def check_prompt(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    prompt_ids: Callable[[str], Sequence[int]],
) -> None:
    """Compare prompt ids with those of the checkpoint's own chat template, on a few questions.

    Args:
        tokenizer: The checkpoint's tokenizer.
        template: The template the prompt was made with.
        prompt_ids: Returns the ids of the whole prompt with a question in it.

    Raises:
        CheckpointError: They differ.
    """
    for question in (*_PROBES, *_word_probes(tokenizer)):
        expected = _encode(tokenizer, render(tokenizer, template, question))
        if list(prompt_ids(question)) != expected:
            raise CheckpointError(
                "chat template: only the question may change in the prompt, other ids change "
                f"with {question!r}"
            )


def template_info(tokenizer: PreTrainedTokenizerBase, template: Template) -> TemplateInfo:
    """Tokenize the reply for every level, as it follows the prompt.

    Raises:
        CheckpointError: The tokenizer has no chat template.
        ConfigError: A token crosses from one part of the reply into the next, a part's ids depend
            on the level, or one level's ids begin another's.
    """
    prompt = render(tokenizer, template, _SENTINEL)
    answer = _SOME_ANSWER if template.answer_prefix[-1].isspace() else f" {_SOME_ANSWER}"
    level_ids, separators, answer_prefixes = [], set(), set()
    for level in template.levels:
        reply = (template.confidence_text(level), template.separator, template.answer_prefix)
        _, confidence, separator, answer_prefix, _ = _encode_parts(
            tokenizer, (prompt, *reply, answer)
        )
        level_ids.append(confidence)
        separators.add(separator)
        answer_prefixes.add(answer_prefix)
    separator_ids = _only("separator", separators)
    _check_no_prefix(template.levels, [ids + separator_ids for ids in level_ids])
    return TemplateInfo(
        levels=template.levels,
        level_ids=tuple(level_ids),
        separator_ids=separator_ids,
        answer_prefix=template.answer_prefix,
        answer_prefix_ids=_only("answer_prefix", answer_prefixes),
        min_template_probability=template.min_template_probability,
    )


def head_info(
    tokenizer: PreTrainedTokenizerBase, template: Template, eos_token_ids: Sequence[int]
) -> HeadInfo:
    """Return the tokens that can spell a multiple-choice answer.

    An answer is one token: a letter A-Z, bare or with a space before it, right after the answer
    prefix.

    Raises:
        ConfigError: A letter takes several tokens.
    """
    info = template_info(tokenizer, template)
    reply = template.confidence_text(template.levels[0]) + template.separator
    before = render(tokenizer, template, _SENTINEL) + reply + template.answer_prefix
    encode = partial(_encode, tokenizer)
    answers: set[int] = set()
    for letter in ascii_uppercase:
        ids = letter_ids(encode, before, info.answer_prefix_ids, letter)
        if not ids:
            raise ConfigError(
                f"head: every letter must be one token, {letter} is not; export with --head full"
            )
        answers.update(ids)
    spelled = {*info.separator_ids, *info.answer_prefix_ids, *eos_token_ids, *answers}
    spelled.update(*info.level_ids)
    return HeadInfo("choices", tuple(sorted(spelled)), tuple(sorted(answers)))


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, directory: Path) -> tuple[str, ...]:
    """Write the tokenizer's files as transformers does, `tokenizer.json` without indentation.

    Returns:
        The names of the files written, relative to `directory`.

    Raises:
        CheckpointError: The tokenizer cannot be written as a `tokenizer.json`.
    """
    backend = fast(tokenizer).backend_tokenizer
    written = {Path(name) for name in tokenizer.save_pretrained(directory, legacy_format=False)}
    backend.save(str(directory / "tokenizer.json"), pretty=False)
    return tuple(sorted(path.relative_to(directory).as_posix() for path in written))


def _word_probes(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Make questions from the ordinary words among the added tokens."""
    controls, added = control_ids(tokenizer), tokenizer.added_tokens_decoder
    words = [token.content for token_id, token in added.items() if token_id not in controls]
    return [f"{word} a{word}b\n{word}" for word in words if word.strip()]


def _question_start(text: str) -> int:
    if text.count(_SENTINEL) != 1:
        raise CheckpointError(
            "chat template: must show the user's message exactly once, "
            f"shows it {text.count(_SENTINEL)} times"
        )
    return text.index(_SENTINEL)


def _folded_prefix(
    tokenizer: PreTrainedTokenizerBase, before: str, offsets: Sequence[tuple[int, int]]
) -> int | None:
    """Return how many tokens no question can change, where the system text is part of its turn.

    Gemma's chat template writes it so, and the last control token stands before it: cut there, the
    system text would be read for every question. BPE merges nothing across two characters that no
    token holds side by side, so the prompt may be cut at the last such place.

    Args:
        tokenizer: The checkpoint's tokenizer.
        before: The prompt up to the question.
        offsets: Where each token of the prompt begins and ends.

    Returns:
        The count; None where words are cut by what follows them, as byte-level BPE's are, or
        everything may merge.
    """
    backend = fast(tokenizer).backend_tokenizer
    document = json.loads(backend.to_str())
    if document["model"]["type"] != "BPE" or "ByteLevel" in json.dumps(document["pre_tokenizer"]):
        return None
    normalize = backend.normalizer.normalize_str if backend.normalizer else str
    pairs = {pair for token in tokenizer.get_vocab() for pair in pairwise(token)}
    for count in range(len(offsets) - 1, 0, -1):
        cut = offsets[count][0]
        # Text that is the question's could be anything: what follows the cut must be constant too.
        if cut < len(before) and offsets[count - 1][1] == cut:
            left, right = normalize(before[cut - 1]), normalize(before[cut])
            # A normalizer that puts something before each text (Llama 2's) cannot be cut after.
            apart = left and right and normalize(before[cut - 1 : cut + 1]) == left + right
            if apart and (left[-1:], right[:1]) not in pairs:
                return count
    return None


def _check_edges(tokenizer: PreTrainedTokenizerBase, info: PromptInfo) -> None:
    """Refuse control tokens that would swallow white space at a question's beginning or end."""
    if info.strip_question:
        return
    edges = [(info.prefix_ids[-1], "rstrip", info.question_prefix)]
    if info.suffix_ids:
        edges.append((info.suffix_ids[0], "lstrip", info.question_suffix))
    for token_id, flag, between in edges:
        token = tokenizer.added_tokens_decoder[token_id]
        if getattr(token, flag) and not between.strip():
            raise CheckpointError(
                f"tokenizer: {token.content!r} must not swallow the white space of the question "
                f"next to it, its {flag} is true; let the chat template trim the user's message"
            )


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _prompt_ids(tokenizer: PreTrainedTokenizerBase, info: PromptInfo, question: str) -> list[int]:
    if info.strip_question:
        question = question.strip()
    middle = _encode(tokenizer, info.question_prefix + question + info.question_suffix)
    return [*info.prefix_ids, *middle, *info.suffix_ids]


def _strips_question(tokenizer: PreTrainedTokenizerBase, template: Template) -> bool:
    padded = f" \t\n{_SENTINEL}\n\t "
    return padded not in render(tokenizer, template, padded)


def _encode_parts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[tuple[int, ...]]:
    """Encode texts that follow each other as one text, and cut its ids where each text ends."""
    ids = _encode(tokenizer, "".join(texts))
    parts: list[tuple[int, ...]] = []
    cut = 0
    for i in range(1, len(texts) + 1):
        head = _encode(tokenizer, "".join(texts[:i]))
        if ids[: len(head)] != head:
            raise ConfigError(
                "template: no token may cross from one part of the reply into the next, one does "
                "between "
                f"{texts[i - 1][-40:]!r} and {texts[i]!r}"
            )
        parts.append(tuple(ids[cut : len(head)]))
        cut = len(head)
    return parts


def _only(name: str, found: set[tuple[int, ...]]) -> tuple[int, ...]:
    if len(found) != 1:
        raise ConfigError(
            f"template: {name}: must have the same ids after every level, has {sorted(found)}"
        )
    return found.pop()


def _check_no_prefix(levels: Sequence[str], paths: Sequence[tuple[int, ...]]) -> None:
    for level, path in zip(levels, paths, strict=True):
        for other, longer in zip(levels, paths, strict=True):
            if other != level and longer[: len(path)] == path:
                raise ConfigError(
                    "template: levels: no level's ids may begin another's, "
                    f"those of {level!r} begin those of {other!r}"
                )
