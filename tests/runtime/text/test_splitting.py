"""Words are those that the `tokenizers` library cuts a text into."""

import json
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import PreTokenizer

from foggen_runtime.text.splitting import Pipeline, UnknownStepError
from tests.support.texts import texts_of_all_scripts
from tests.support.tokenizers import tiny_backend

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT2 = {**BYTES, "use_regex": True}
EACH_DIGIT = {"type": "Digits", "individual_digits": True}
DIGITS = {"type": "Digits", "individual_digits": False}


def split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def document(pre_tokenizer: dict[str, Any] | None) -> dict[str, Any]:
    return {"normalizer": None, "pre_tokenizer": pre_tokenizer, "decoder": BYTES}


QWEN = json.loads(tiny_backend().to_str())["pre_tokenizer"]
PRE_TOKENIZERS = {
    "Qwen's": QWEN,
    "GPT-2's": GPT2,
    "one that leaves gaps": sequence(split(r"\p{L}+|(?i:'[sdt])"), BYTES),
    "marks": sequence(split(r"[\p{L}\p{M}]+"), BYTES),
    "SmolLM2's": sequence(EACH_DIGIT, GPT2),
    "runs of digits": sequence(DIGITS, BYTES),
    "two splits": sequence(split(r"\s+"), split(r"\p{N}{1,3}"), BYTES),
    "none": sequence(BYTES),
}


def librarys(pre_tokenizer: dict[str, Any]) -> PreTokenizer:
    whole = json.loads(Tokenizer(BPE()).to_str())
    whole["pre_tokenizer"] = pre_tokenizer
    found = Tokenizer.from_str(json.dumps(whole)).pre_tokenizer
    assert isinstance(found, PreTokenizer)
    return found


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_words_of_all_scripts(name: str) -> None:
    theirs = librarys(PRE_TOKENIZERS[name])
    pipeline = Pipeline.read(document(PRE_TOKENIZERS[name]))
    for text in texts_of_all_scripts(500, seed=4):
        spans = [span for _, span in theirs.pre_tokenize_str(text)]
        assert pipeline.words(text) == [text[start:end] for start, end in spans if start < end], (
            repr(text)
        )


@pytest.mark.parametrize("most", [0x2000, pytest.param(0x40000, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", ["Qwen's", "marks", "SmolLM2's"])
def test_each_character_is_of_the_librarys_kind(name: str, most: int) -> None:
    theirs = librarys(PRE_TOKENIZERS[name])
    pipeline = Pipeline.read(document(PRE_TOKENIZERS[name]))
    characters = [chr(code) for code in range(most) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(characters), 1 << 12):
        text = "".join(f"a{char}a!{char}!" for char in characters[start : start + (1 << 12)])
        spans = [span for _, span in theirs.pre_tokenize_str(text)]
        assert pipeline.words(text) == [text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    "pattern",
    [
        r"\p{Lu}+",  # a letter changed its kind since
        r"\h+",  # hexadecimal digits to Oniguruma, spaces to regex
        r"(a)|b",
        r"[a&&b]",
        r"[a-z]+",
        r"a{2}+",
        r"(?i:ß)",
        r".+",
        r"^a$",
        r"\p{L}*",
    ],
)
def test_a_pattern_that_may_be_read_otherwise_is_not_taken(pattern: str) -> None:
    with pytest.raises(UnknownStepError, match=r"pre_tokenizer: must not "):
        Pipeline.read(document(sequence(split(pattern), BYTES)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_tokenizer": None}, "must end with ByteLevel, ends with None"),
        ({"pre_tokenizer": sequence()}, "must end with ByteLevel, ends with None"),
        ({"pre_tokenizer": {"type": "Metaspace"}}, "must end with ByteLevel"),
        ({"pre_tokenizer": sequence(split("a"))}, "must end with ByteLevel"),
        ({"pre_tokenizer": sequence(BYTES, BYTES)}, "must not have a step"),
        ({"pre_tokenizer": sequence(GPT2, BYTES)}, "must not have a step"),
        ({"pre_tokenizer": {**BYTES, "add_prefix_space": True}}, "must end with ByteLevel"),
        (
            {"pre_tokenizer": sequence({**split("a"), "behavior": "Removed"}, BYTES)},
            "must not have a step",
        ),
        ({"pre_tokenizer": sequence({**split("a"), "invert": True}, BYTES)}, "must not have"),
        ({"normalizer": {"type": "NFKC"}}, "normalizer: must be NFC or null, is"),
        ({"decoder": {"type": "Metaspace"}}, "decoder: must be ByteLevel, is"),
        ({"decoder": None}, "decoder: must be ByteLevel, is None"),
    ],
)
def test_what_is_not_byte_level_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownStepError, match=message):
        Pipeline.read(document(BYTES) | change)
