"""Questions become ids without control tokens, and ids become text piece by piece."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, processors
from tokenizers.models import BPE

from foggen_runtime.bundle.manifest import PromptInfo
from foggen_runtime.errors import BundleError, QuestionError
from foggen_runtime.text.tokenizer import QuestionTokenizer
from tests.support.tokenizers import (
    QWEN3_ADDED_TOKENS,
    byte_letters,
    tiny_backend,
    varied_questions,
)

PROMPT = PromptInfo("", (1, 2), "user\n", " ?", (3, 4))
STRIPPING = PromptInfo("", (1, 2), "user\n", " ?", (3, 4), strip_question=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bundle") / "tokenizer.json"
    tiny_backend().save(str(file), pretty=False)
    return file


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> QuestionTokenizer:
    return QuestionTokenizer.from_file(path)


def rewritten(path: Path, change: Callable[[dict[str, Any]], str]) -> QuestionTokenizer:
    """Load a tokenizer whose JSON text was written anew."""
    copy = path.with_name("changed.json")
    copy.write_text(change(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    return QuestionTokenizer.from_file(copy)


def token_id(token: str) -> int:
    found = tiny_backend().token_to_id(token)
    assert found is not None
    return found


def byte_ids(data: bytes) -> list[int]:
    """Return one token for each byte, as no encoder would write it but a model may."""
    letters = byte_letters()
    return [token_id(letters[byte]) for byte in data]


def test_plain_text_gets_the_whole_tokenizers_ids(tokenizer: QuestionTokenizer) -> None:
    for question in varied_questions(200):
        assert tokenizer.encode(question) == tiny_backend().encode(question).ids, repr(question)


@pytest.mark.parametrize("token", QWEN3_ADDED_TOKENS)
def test_typed_added_token_stays_text(tokenizer: QuestionTokenizer, token: str) -> None:
    added = {token_id(content) for content in QWEN3_ADDED_TOKENS}
    for text in (token, f"mid{token}dle", token + token):
        ids = tokenizer.encode(text)
        assert added.isdisjoint(ids)
        assert tokenizer.decode(ids) == text


def test_prompt_is_prefix_question_suffix(tokenizer: QuestionTokenizer) -> None:
    middle = tiny_backend().encode("user\n Why?\n ?").ids
    assert tokenizer.prompt_ids(PROMPT, " Why?\n") == [1, 2, *middle, 3, 4]


def test_question_is_stripped_where_the_chat_template_does(tokenizer: QuestionTokenizer) -> None:
    middle = tiny_backend().encode("user\nWhy? ?").ids
    assert tokenizer.prompt_ids(STRIPPING, "\t Why?\u3000\n") == [1, 2, *middle, 3, 4]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "question: must not be empty, is ''"),
        (" \n\u3000", "question: must not be empty"),
        ("ok \ud83d", r"valid Unicode, has the lone surrogate U\+D83D at character 3"),
        (b"bytes", "question: must be text, is bytes"),
        (None, "question: must be text, is NoneType"),
    ],
)
def test_question_that_cannot_be_asked_is_refused(
    tokenizer: QuestionTokenizer, question: Any, message: str
) -> None:
    with pytest.raises(QuestionError, match=message):
        tokenizer.prompt_ids(PROMPT, question)


@pytest.mark.parametrize(
    "write",
    [
        lambda document: json.dumps(document, indent=2),
        lambda document: "{" + " " * 70_000 + json.dumps(document)[1:],
        lambda document: json.dumps(dict(reversed(document.items())), ensure_ascii=False),
    ],
    ids=["indented", "list beyond the head", "vocabulary first"],
)
def test_added_tokens_are_found_however_the_file_is_written(
    path: Path, tokenizer: QuestionTokenizer, write: Callable[[dict[str, Any]], str]
) -> None:
    changed = rewritten(path, write)
    text = "<think> a<|im_end|>"
    assert changed.encode(text) == tokenizer.encode(text)
    ids = [token_id("<think>"), token_id("a"), token_id("<|im_end|>")]
    assert changed.decode(ids) == "<think>a"


def test_word_named_like_the_list_is_not_taken_for_it(path: Path) -> None:
    def with_word(document: dict[str, Any]) -> str:
        document["model"]["vocab"]["added_tokens"] = 5000
        return json.dumps(dict(reversed(document.items())))

    assert token_id("<think>") not in rewritten(path, with_word).encode("<think>")


def test_truncation_padding_and_post_processing_are_not_applied(tmp_path: Path) -> None:
    whole = Tokenizer.from_str(tiny_backend().to_str())
    whole.enable_truncation(4)
    whole.enable_padding(length=4)
    start = "<|im_start|>"
    whole.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, token_id(start))]
    )
    whole.save(str(tmp_path / "tokenizer.json"))
    tokenizer = QuestionTokenizer.from_file(tmp_path / "tokenizer.json")
    for text in ("x", "Confidence: 0.75\nFinal answer: B"):
        assert tokenizer.encode(text) == tiny_backend().encode(text).ids


def test_special_token_that_text_can_spell_is_refused(tmp_path: Path) -> None:
    model = BPE(vocab={"<": 0, ">": 1, "<>": 2}, merges=[("<", ">")])
    whole = Tokenizer(model)
    whole.add_special_tokens([AddedToken("<>", special=True)])
    whole.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BundleError, match="must not turn into a control token, '<>' does"):
        QuestionTokenizer.from_file(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("content", ["{", "{}", '{"added_tokens": [{}]}', '{"added_tokens":['])
def test_broken_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match=r"tokenizer\.json: cannot be read as a tokenizer"):
        QuestionTokenizer.from_file(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read as a tokenizer"):
        QuestionTokenizer.from_file(tmp_path / "tokenizer.json")


def random_ids(chance: random.Random) -> list[int]:
    """Return ids as a confused model may write them: broken UTF-8, control tokens, no tokens."""
    size = tiny_backend().get_vocab_size()
    whole = byte_ids("é年😀\ufffd".encode())
    ids = []
    for _ in range(chance.randint(1, 12)):
        start = chance.randrange(len(whole))
        ids += [chance.randrange(size + 5), *whole[start : start + chance.randint(1, 6)]]
    return ids


def test_decoding_is_that_of_the_whole_tokenizer(tokenizer: QuestionTokenizer) -> None:
    chance = random.Random(3)
    for _ in range(300):
        ids = random_ids(chance)
        assert tokenizer.decode(ids) == tiny_backend().decode(ids, skip_special_tokens=True)


def test_only_special_tokens_are_left_out_of_text(tokenizer: QuestionTokenizer) -> None:
    ids = [token_id(token) for token in ("<|im_start|>", "<think>", "x", "</think>", "<|im_end|>")]
    assert tokenizer.decode(ids) == "<think>x</think>"


def test_bytes_that_are_not_text_become_replacement_characters(
    tokenizer: QuestionTokenizer,
) -> None:
    assert tokenizer.decode(byte_ids(b"a\xffb\xe5\xb9")) == "a\ufffdb\ufffd"


def test_tokens_without_a_decoder_are_words(tmp_path: Path) -> None:
    whole = Tokenizer(BPE(vocab={"a": 0, "b": 1}, merges=[]))
    whole.save(str(tmp_path / "tokenizer.json"))
    tokenizer = QuestionTokenizer.from_file(tmp_path / "tokenizer.json")
    assert tokenizer.decode([0, 1]) == whole.decode([0, 1]) == "a b"


def test_stream_gives_a_character_when_it_is_whole(tokenizer: QuestionTokenizer) -> None:
    stream = tokenizer.stream()
    ids = [*byte_ids("x😀".encode()), token_id("<|im_end|>"), *byte_ids(b"y\xf0\x9f")]
    pieces = [stream.feed(token) for token in ids]
    assert pieces == ["x", "", "", "", "😀", "", "y", "", ""]
    assert stream.finish() == "\ufffd"
    assert stream.finish() == ""


def test_streamed_pieces_are_the_decoded_text(tokenizer: QuestionTokenizer) -> None:
    chance = random.Random(5)
    for _ in range(500):
        ids = random_ids(chance)
        stream = tokenizer.stream()
        text = "".join(map(stream.feed, ids))
        assert text + stream.finish() == tokenizer.decode(ids)


def test_stream_gives_words_as_they_come(tokenizer: QuestionTokenizer) -> None:
    stream = tokenizer.stream()
    ids = tokenizer.encode("Confidence: 0.75\nFinal answer: B")
    pieces = [stream.feed(token) for token in ids]
    assert all(pieces)
    assert pieces == [tokenizer.decode([token]) for token in ids]


def test_stream_keeps_the_space_after_a_special_token(tmp_path: Path) -> None:
    whole = Tokenizer(BPE(vocab={"\u2581a": 0, "\u2581b": 1}, merges=[]))
    whole.decoder = decoders.Metaspace()  # drops the first token's leading space
    whole.add_special_tokens(["<end>"])
    whole.save(str(tmp_path / "tokenizer.json"))
    stream = QuestionTokenizer.from_file(tmp_path / "tokenizer.json").stream()
    assert [stream.feed(token) for token in (0, 2, 1)] == ["a", "", " b"]


def test_stream_decodes_no_id_over_and_over(path: Path) -> None:
    class Recording(QuestionTokenizer):
        longest = 0

        def decode(self, ids: Sequence[int]) -> str:
            self.longest = max(self.longest, len(ids))
            return super().decode(ids)

    tokenizer = Recording.from_file(path)
    stream = tokenizer.stream()
    for token in tokenizer.encode("Confidence: 0.75\nFinal answer: B"):
        stream.feed(token)
    assert tokenizer.longest == 2
