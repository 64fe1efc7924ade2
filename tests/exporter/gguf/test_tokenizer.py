"""Tokenizers of GGUF files give the ids of the models' own."""

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from foggen_exporter.gguf.header import GgufHeader
from foggen_exporter.gguf.tokenizer import write_tokenizer_files
from foggen_runtime.errors import CheckpointError
from tests.support.gguf_models import random_family
from tests.support.gguf_writer import (
    BYTE,
    CONTROL,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    GgufModel,
    byte_level_metadata,
)
from tests.support.tokenizers import (
    QWEN3_ADDED_TOKENS,
    QWEN3_CHAT_TEMPLATE,
    extended_backend,
    questions_with_words,
    qwen3_backend,
    tiny_backend,
    varied_questions,
)

SPACE = "\u2581"
_GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How the tokenizer.json of SmolLM2, GPT-2 and Llama 3 splits words, in regular expressions.
PRE_TOKENIZERS = {
    "smollm": [(r"\p{N}", "isolated"), (_GPT_2, "isolated")],
    "gpt-2": [(_GPT_2, "isolated")],
    "llama-bpe": [(_LLAMA_3, "isolated")],
}
TEXTS = varied_questions(1500) + questions_with_words(600)


def written(metadata: dict[str, object], directory: Path, family: str = "qwen3") -> Path:
    """Write a GGUF file's tokenizer as files; return their directory."""
    tensors = {"model.norm.weight": random_family("qwen3").gguf.tensors["model.norm.weight"]}
    path = GgufModel(family, metadata, tensors).write(directory / "model.gguf")
    target = directory / "tokenizer"
    target.mkdir()
    write_tokenizer_files(GgufHeader.read(path), target)
    return target


def loaded(directory: Path, model_type: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer as exporting does."""
    config = AutoConfig.for_model(model_type)
    tokenizer = AutoTokenizer.from_pretrained(directory, config=config)
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def assert_same_ids(
    ours: PreTrainedTokenizerBase | Tokenizer,
    theirs: PreTrainedTokenizerBase | Tokenizer,
    texts: list[str],
) -> None:
    for text in texts:
        assert ids(ours, text) == ids(theirs, text), repr(text)


def ids(tokenizer: PreTrainedTokenizerBase | Tokenizer, text: str) -> list[int]:
    if isinstance(tokenizer, Tokenizer):
        return tokenizer.encode(text, add_special_tokens=False).ids
    encoded: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return encoded


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_qwens_ids_are_the_real_ones(tmp_path: Path, model_type: str) -> None:
    metadata = byte_level_metadata(qwen3_backend(), "qwen2")
    ours = loaded(written(metadata, tmp_path), model_type)
    controls = [f"a{token}b {token}" for token in QWEN3_ADDED_TOKENS]
    assert_same_ids(ours, qwen3_backend(), TEXTS + controls)


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_each_kind_splits_as_its_models_do(tmp_path: Path, pre: str) -> None:
    backend = byte_level(pre)
    ours = loaded(written(byte_level_metadata(backend, pre), tmp_path), "llama")
    assert_same_ids(ours, backend, [*TEXTS, "In 2024, 12345 ١٢٣ x² ½", "a<|end|>b"])


def byte_level(pre: str) -> Tokenizer:
    tokenizer = Tokenizer(BPE(ignore_merges=pre == "llama-bpe"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(rule), how) for rule, how in PRE_TOKENIZERS[pre]),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS[:400], trainer)
    return tokenizer


def test_a_word_that_no_merges_make_is_found_whole_in_llama_3s(tmp_path: Path) -> None:
    metadata = byte_level_metadata(byte_level("llama-bpe"), "llama-bpe")
    words, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert isinstance(words, list)
    assert isinstance(kinds, list)
    metadata["tokenizer.ggml.tokens"] = [*words, "Zyzzyva"]
    metadata["tokenizer.ggml.token_type"] = [*kinds, NORMAL]
    assert ids(loaded(written(metadata, tmp_path), "llama"), "Zyzzyva") == [len(words)]


def test_added_words_and_unused_ids_keep_their_places(tmp_path: Path) -> None:
    backend = extended_backend([AddedToken("zz", normalized=False)])
    metadata = byte_level_metadata(backend, "qwen2")
    words, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert isinstance(words, list)
    assert isinstance(kinds, list)
    metadata["tokenizer.ggml.tokens"] = [*words, "[PAD]", "<|last|>"]
    metadata["tokenizer.ggml.token_type"] = [*kinds, UNUSED, CONTROL]
    ours = loaded(written(metadata, tmp_path), "qwen3")
    assert ids(ours, "azzb<|last|>") == [
        *ids(backend, "a"),
        len(words) - 1,
        *ids(backend, "b"),
        len(words) + 1,
    ]
    assert "[PAD]" not in ours.get_vocab()
    special = {token.content for token in ours.added_tokens_decoder.values() if token.special}
    assert {"<|last|>", "<|im_end|>"} <= special
    assert "zz" not in special


def test_named_tokens_and_the_chat_template_come_along(tmp_path: Path) -> None:
    metadata = byte_level_metadata(tiny_backend(), "qwen2") | {
        "tokenizer.ggml.bos_token_id": 469,
        "tokenizer.ggml.eos_token_id": 471,
        "tokenizer.ggml.padding_token_id": 469,
        "tokenizer.ggml.unknown_token_id": 99_999,
        "tokenizer.chat_template": QWEN3_CHAT_TEMPLATE.read_text(),
    }
    tokenizer = loaded(written(metadata, tmp_path), "qwen3")
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert (tokenizer.pad_token, tokenizer.unk_token) == ("<|endoftext|>", None)
    assert tokenizer.chat_template == QWEN3_CHAT_TEMPLATE.read_text()


def pieces(lines: list[str]) -> tuple[list[str], list[int]]:
    """Make a vocabulary as SentencePiece does: bytes, then pieces in the order they are learned.

    Args:
        lines: What is defined by the user.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False)
    tokenizer.train_from_iterator(TEXTS[:400], trainer)
    learned = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    controls = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>"]
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    words = [piece for piece, _ in learned if "\n" not in piece and piece.strip(SPACE)]
    words.append(SPACE)
    tokens = [*controls, *lines, *spelled, *words]
    kinds = [CONTROL] * 5 + [USER_DEFINED] * len(lines) + [BYTE] * 256 + [NORMAL] * len(words)
    return tokens, kinds


def sentence_pieces(*lines: str) -> dict[str, object]:
    tokens, kinds = pieces(list(lines))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.scores": [-float(i) for i in range(len(tokens))],
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3,
    }


def test_gemmas_ids_are_those_that_transformers_finds(tmp_path: Path) -> None:
    metadata = sentence_pieces("\n", "\n\n", "\n\n\n", "  ", "   ")
    metadata |= {"tokenizer.ggml.add_space_prefix": False}
    directory = written(metadata, tmp_path, "gemma3")
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    spaced = ["<start_of_turn>user\nhi", "a\n\nb\n\n\nc", "  two   three    "]
    assert_same_ids(loaded(directory, "gemma3_text"), theirs, TEXTS + spaced)


def test_llama_2s_ids_are_those_that_transformers_finds(tmp_path: Path) -> None:
    directory = written(sentence_pieces(), tmp_path, "llama")
    ours = loaded(directory, "llama")
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    # Other than transformers, a space is put before a text that begins with one, as SentencePiece
    # does, and after an added token, as llama.cpp and Llama 2's own tokenizer.json do.
    texts = [text for text in TEXTS if not text.startswith((" ", SPACE))]
    assert_same_ids(ours, theirs, texts)
    vocabulary = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    assert ids(ours, " \u4e00")[:2] == [vocabulary[SPACE]] * 2
    assert ids(ours, "<eos>\u4e00")[1] == vocabulary[SPACE]
    assert ours.decode(ids(ours, "two words")) == "two words"


@pytest.mark.parametrize(("key", "value", "message"), [
    ("tokenizer.ggml.model", None, "must be there, is missing"),
    ("tokenizer.ggml.model", "t5", "must be one of gpt2, llama, is 't5'"),
    ("tokenizer.ggml.pre", None, "must be there, is missing"),
    ("tokenizer.ggml.pre", "default", "must be one of gpt-2, llama-bpe, qwen2, smollm, is 'def"),
    ("tokenizer.ggml.merges", None, "must be there, is missing"),
    ("tokenizer.ggml.merges", ["a zz"], "Error while initializing BPE: Token `zz` out of voc"),
    ("tokenizer.ggml.token_type", [1, 1], "must have one for each of the 495 tokens, is 2"),
])  # fmt: skip
def test_what_is_missing_or_unknown_is_named(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    metadata = byte_level_metadata(tiny_backend(), "qwen2")
    changed = GgufModel("qwen3", metadata, {}).but(**{key.replace(".", "__"): value})
    with pytest.raises(CheckpointError) as raised:
        written(dict(changed.metadata), tmp_path)
    assert f"{key}: {message}" in str(raised.value)
