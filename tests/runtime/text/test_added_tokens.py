"""Words that a vocabulary was extended by become their ids; control tokens do not."""

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer

from foggen_exporter.text.token_tables import token_tables, write_tables
from foggen_runtime.bundle.manifest import TOKEN_TABLES_FILE
from foggen_runtime.errors import BundleError
from foggen_runtime.text.added_tokens import is_control
from foggen_runtime.text.tokenizer import QuestionTokenizer
from tests.support.tokenizers import (
    ADDED_WORDS,
    DECOMPOSED,
    QWEN3_ADDED_TOKENS,
    extended_backend,
    questions_with_words,
    tiny_backend,
    varied_questions,
)


def readings(backend: Tokenizer, directory: Path) -> dict[str, QuestionTokenizer]:
    """Return the runtime's two readings of a tokenizer."""
    path, tables_path = directory / "tokenizer.json", directory / TOKEN_TABLES_FILE
    backend.save(str(path))
    tables = token_tables(json.loads(backend.to_str()))
    assert tables is not None
    write_tables(tables, tables_path)
    return {
        "library": QuestionTokenizer.from_file(path),
        "tables": QuestionTokenizer.from_file(tables_path),
    }


@pytest.fixture(scope="module", params=["library", "tables"])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> QuestionTokenizer:
    return readings(extended_backend(), tmp_path_factory.mktemp("bundle"))[request.param]


def test_ids_are_those_of_the_whole_tokenizer(tokenizer: QuestionTokenizer) -> None:
    whole = extended_backend()
    for text in (*questions_with_words(3000), *varied_questions(200)):
        assert tokenizer.encode(text) == whole.encode(text, add_special_tokens=False).ids, repr(
            text
        )


def test_words_are_read_as_the_whole_tokenizer_reads_them(tokenizer: QuestionTokenizer) -> None:
    whole = extended_backend()
    for word in ADDED_WORDS:
        token = whole.token_to_id(word.content)
        assert token is not None
        ids = [*tokenizer.encode("a"), token, *tokenizer.encode("b")]
        if word.content != DECOMPOSED:  # the library shows it composed
            assert tokenizer.decode(ids) == whole.decode(ids), word.content


def test_every_word_is_met(tokenizer: QuestionTokenizer) -> None:
    whole = extended_backend()
    met = {token for text in questions_with_words(3000) for token in tokenizer.encode(text)}
    assert {whole.token_to_id(word.content) for word in ADDED_WORDS} <= met


@pytest.mark.parametrize("control", QWEN3_ADDED_TOKENS)
def test_control_tokens_beside_words_stay_text(tokenizer: QuestionTokenizer, control: str) -> None:
    whole = extended_backend()
    ids = tokenizer.encode(f"instrument{control}instrument")
    assert {whole.token_to_id(token) for token in QWEN3_ADDED_TOKENS}.isdisjoint(ids)
    assert ids[0] == ids[-1] == whole.token_to_id("instrument")
    assert tokenizer.decode(ids) == f"instrument{control}instrument"


def test_the_longest_of_words_that_begin_alike_is_found(tmp_path: Path) -> None:
    backend = extended_backend((AddedToken("foo"), AddedToken("foobar"), AddedToken("foob")))
    for tokenizer in readings(backend, tmp_path).values():
        for text in ("foobar", "foobfoo", "xfoobarfoo"):
            assert tokenizer.encode(text) == backend.encode(text).ids


def test_a_word_inside_a_typed_control_token_is_a_word(tmp_path: Path) -> None:
    backend = extended_backend((AddedToken("think"), AddedToken("im_end", normalized=False)))
    for tokenizer in readings(backend, tmp_path).values():
        for text, word in (("<think>", "think"), ("<|im_end|>", "im_end")):
            ids = tokenizer.encode(text)
            assert backend.token_to_id(word) in ids
            assert backend.token_to_id(text) not in ids


@pytest.mark.parametrize(
    ("content", "special", "control"),
    [
        ("<|im_end|>", True, True),
        ("stop", True, True),
        *((content, False, True) for content in QWEN3_ADDED_TOKENS),
        ("[INST]", False, True),
        (" </answer>\n", False, True),
        ("<\uff5cUser\uff5c>", False, True),
        ("instrument", False, False),
        ("C++", False, False),
        ("<>", False, False),
        ("[]", False, False),
        ("a<b>", False, False),
        ("<b]", False, False),
        ("    ", False, False),
        ("<", False, False),
    ],
)
def test_control_tokens_are_special_or_in_brackets(
    content: str, special: bool, control: bool
) -> None:
    assert is_control(content, special=special) == control


def test_control_token_that_plain_text_spells_is_refused(tmp_path: Path) -> None:
    document = json.loads(tiny_backend().to_str())
    vocabulary = document["model"]["vocab"]
    vocabulary["<t"], vocabulary["<t>"] = 5000, 5001
    document["model"]["merges"] = [["<", "t"], ["<t", ">"]]
    backend = Tokenizer.from_str(json.dumps(document))
    backend.pre_tokenizer = None
    backend.add_tokens(["<t>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BundleError, match="must not turn into a control token, '<t>' does"):
        QuestionTokenizer.from_file(tmp_path / "tokenizer.json")
