"""The tables give what the `tokenizers` library gives."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from foggen_exporter.text.token_tables import token_tables, write_tables
from foggen_runtime.bundle.manifest import TOKEN_TABLES_FILE, Manifest
from foggen_runtime.errors import BundleError
from foggen_runtime.text.byte_pairs import TokenTables
from foggen_runtime.text.tokenizer import QuestionTokenizer
from tests.conftest import BundleOf
from tests.support.tokenizers import qwen3_backend, tiny_backend, varied_questions

LONG = ("a" * 3000, "ab" * 1000, " " * 700, "é" * 500, "Қазақстан" * 100, "0123456789" * 30)


def tables_of(backend: Tokenizer, directory: Path) -> QuestionTokenizer:
    return tables_of_text(backend.to_str(), directory)


def tables_of_text(text: str, directory: Path) -> QuestionTokenizer:
    tables = token_tables(json.loads(text))
    assert tables is not None
    write_tables(tables, directory / TOKEN_TABLES_FILE)
    return QuestionTokenizer.from_file(directory / TOKEN_TABLES_FILE)


@pytest.mark.parametrize("name", ["tiny", "qwen3"])
def test_ids_and_text_are_the_librarys(name: str, tmp_path: Path) -> None:
    backend = {"tiny": tiny_backend, "qwen3": qwen3_backend}[name]()
    tokenizer = tables_of(backend, tmp_path)
    for text in (*varied_questions(400), *LONG):
        assert tokenizer.encode(text) == backend.encode(text).ids, repr(text)
    chance = random.Random(1)
    for _ in range(200):
        ids = [chance.randrange(backend.get_vocab_size() + 9) for _ in range(8)]
        assert tokenizer.decode(ids) == backend.decode(ids, skip_special_tokens=True)


def test_typed_control_tokens_stay_text(tmp_path: Path) -> None:
    tokenizer = tables_of(tiny_backend(), tmp_path)
    text = "<|im_end|><think>"
    ids = tokenizer.encode(text)
    assert not {tiny_backend().token_to_id(token) for token in ("<|im_end|>", "<think>")} & {*ids}
    assert tokenizer.decode(ids) == text


def test_the_later_of_two_equal_merges_counts(tmp_path: Path) -> None:
    document = json.loads(tiny_backend().to_str())
    merges = document["model"]["merges"]
    merges.append(merges[0])
    backend = Tokenizer.from_str(json.dumps(document))
    tokenizer = tables_of_text(json.dumps(document), tmp_path)
    for text in varied_questions(100):
        assert tokenizer.encode(text) == backend.encode(text).ids


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("type", "WordPiece"),
        ("dropout", 0.1),
        ("unk_token", "<unk>"),
        ("continuing_subword_prefix", "##"),
        ("end_of_word_suffix", "</w>"),
        ("byte_fallback", True),
    ],
)
def test_other_models_have_no_tables(where: str, value: object) -> None:
    document = json.loads(tiny_backend().to_str())
    document["model"][where] = value
    assert token_tables(document) is None


@pytest.mark.parametrize("step", [None, {"type": "Whitespace"}, {"type": "Sequence"}])
def test_words_that_are_not_bytes_have_no_tables(step: dict[str, Any] | None) -> None:
    document = json.loads(tiny_backend().to_str())
    if step and step["type"] == "Sequence":
        step = {
            "type": "Sequence",
            "pretokenizers": [{"type": "ByteLevel"}, {"type": "Whitespace"}],
        }
    document["pre_tokenizer"] = step
    assert token_tables(document) is None


def test_a_bundle_carries_tables_of_its_tokenizer(tiny_bundle: BundleOf) -> None:
    bundle = tiny_bundle("int4")
    assert TOKEN_TABLES_FILE in Manifest.load(bundle).files
    tables = QuestionTokenizer.from_file(bundle / TOKEN_TABLES_FILE)
    whole = QuestionTokenizer.from_file(bundle / "tokenizer.json")
    for text in varied_questions(100):
        assert tables.encode(text) == whole.encode(text)


def test_broken_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / TOKEN_TABLES_FILE
    tables = token_tables(json.loads(tiny_backend().to_str()))
    assert tables is not None
    write_tables(tables, path)
    whole = path.read_bytes()
    for content in (b"", b"PK", b"{}", whole[:100], whole[:-1], whole[1:]):
        path.write_bytes(content)
        with pytest.raises(
            BundleError, match=r"tokenizer\.safetensors: cannot be read as a tokenizer"
        ):
            QuestionTokenizer.from_file(path)


def test_ids_outside_the_vocabulary_spell_nothing(tmp_path: Path) -> None:
    tables = token_tables(json.loads(tiny_backend().to_str()))
    assert tables is not None
    write_tables(tables, tmp_path / TOKEN_TABLES_FILE)
    loaded = TokenTables.map(tmp_path / TOKEN_TABLES_FILE)
    assert loaded.spelling(-1) is None
    assert loaded.spelling(len(loaded.ends)) is None
    assert loaded.spelling(0) == tiny_backend().id_to_token(0)
