"""Tables give the ids and the text that the `tokenizers` library gives."""

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from foggen_exporter.text.token_tables import token_tables
from foggen_runtime.text.byte_pairs import TableTokenizer
from foggen_runtime.text.tokenizer import QuestionTokenizer
from tests.conftest import TINY
from tests.support.smollm2 import smollm2_document
from tests.support.texts import SCRIPTS, scripts_of, texts_of_all_scripts
from tests.support.tokenizers import qwen3_backend, tiny_backend

GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# Llama 3's: https://huggingface.co/meta-llama/Meta-Llama-3-8B, tokenizer.json.
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Both:
    """One tokenizer read by us and by the library, for which control tokens are plain text, too."""

    ours: QuestionTokenizer
    librarys: Tokenizer

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Both":
        tables = token_tables(document)
        assert tables is not None
        librarys = Tokenizer.from_str(json.dumps({**document, "added_tokens": []}))
        return cls(QuestionTokenizer(TableTokenizer(tables)), librarys)

    def differing(self, texts: list[str]) -> list[str]:
        """Return the texts of which the two give other ids, or other text of the ids."""
        found = []
        for text in texts:
            ids = self.librarys.encode(text, add_special_tokens=False).ids
            decoded = self.librarys.decode(ids, skip_special_tokens=False)
            if self.ours.encode(text) != ids or self.ours.decode(ids) != decoded:
                found.append(text)
        return found


def tiny_foggen() -> dict[str, Any]:
    path = TINY / "checkpoint" / "tokenizer.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def qwen3() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(qwen3_backend().to_str())
    return document


def like_smollm2() -> dict[str, Any]:
    """Return one that cuts single digits, normalizes nothing and lacks tokens of some bytes."""
    document: dict[str, Any] = json.loads(tiny_backend().to_str())
    steps = [{"type": "Digits", "individual_digits": True}, GPT2]
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    document["normalizer"] = None
    for letter in "!zĀ÷":
        del document["model"]["vocab"][letter]
    return document


def like_llama3() -> dict[str, Any]:
    """Return one whose whole words come before merges, and may be none that merges make."""
    document: dict[str, Any] = json.loads(tiny_backend().to_str())
    split = {"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT}, "behavior": "Isolated"}
    steps = [{**split, "invert": False}, {**GPT2, "use_regex": False}]
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    document["normalizer"] = None
    document["model"]["ignore_merges"] = True
    words = ("Ġdon", "'S", "...", "Ð", "Ã©", "Ã", "012", "ĊĊĊ", "Ġ" * 16, "\u2581x")
    document["model"]["vocab"] |= {word: 5000 + i for i, word in enumerate(words)}
    return document


ORDINARY = {each.__name__: each for each in (tiny_foggen, qwen3, like_smollm2, like_llama3)}


@pytest.mark.parametrize("name", ORDINARY)
def test_ids_and_text_are_the_librarys(name: str) -> None:
    assert Both.of(ORDINARY[name]()).differing(texts_of_all_scripts(2000, seed=1)) == []


@pytest.mark.parametrize("letters", ["ab", "aeinorst", "АЕИНОРСТ", "ес"])
def test_words_of_any_length(letters: str) -> None:
    chance = random.Random(9)
    words = ["".join(chance.choices(letters, k=length)) for length in (*range(1, 140), 1500)]
    assert Both.of(tiny_foggen()).differing(words) == []


def test_whole_words_come_before_merges_where_the_model_says_so() -> None:
    both = Both.of(like_llama3())
    for text, token in ((" don", 5000), ("'S", 5001), ("é", 5004), ("012", 5006), (" " * 16, 5008)):
        assert both.ours.encode(text) == both.librarys.encode(text).ids == [token]


def test_a_byte_without_a_token_is_left_out() -> None:
    both = Both.of(like_smollm2())
    assert both.ours.encode("a!b") == both.ours.encode("a") + both.ours.encode("b")
    assert both.ours.encode("!") == []
    # What is left of the word merges as if the byte had never been there.
    assert both.librarys.encode("Conzfidence").ids == both.ours.encode("Confidence")
    assert both.differing(["Conzfidence", "zzz", "wzhzazt"]) == []


def smollm2() -> dict[str, Any]:
    return smollm2_document(Path(os.environ["FOGGEN_SMOLLM2"]))


@pytest.mark.long
@pytest.mark.parametrize("document", [tiny_foggen, qwen3, smollm2])
def test_a_hundred_thousand_texts(document: Callable[[], dict[str, Any]]) -> None:
    texts = list(dict.fromkeys(texts_of_all_scripts(110_000, seed=2)))
    assert len(texts) >= 100_000
    assert scripts_of(texts) == set(SCRIPTS)
    assert Both.of(document()).differing(texts) == []
