"""The tokenizer in a GGUF file, as the files that transformers reads."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gguf import TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer, Sequence
from tokenizers.processors import ByteLevel

from foggen_exporter.gguf.header import GgufHeader
from foggen_runtime.errors import CheckpointError

_NAMED_TOKENS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "pad_token": "padding_token_id",
    "unk_token": "unknown_token_id",
}
_SPACE = "\u2581"
# Llama 3's and Qwen's, which differ in how they split numbers.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _split(digits: str) -> PreTokenizer:
    return pre_tokenizers.Split(Regex(_SPLIT.format(digits=digits)), behavior="isolated")


@dataclass(frozen=True)
class _Pipeline:
    """What is done to a text before words are merged from their bytes.

    Attributes:
        splits: Split it into words, and spell their bytes as letters.
        normalizer: Comes before.
        ignore_merges: Whether a word that is a token is not merged from its parts.
    """

    splits: tuple[PreTokenizer, ...]
    normalizer: Normalizer | None = None
    ignore_merges: bool = False


_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
_WORDS = pre_tokenizers.ByteLevel(add_prefix_space=False)  # splits as GPT-2, too
_DIGITS = pre_tokenizers.Digits(individual_digits=True)
# By `tokenizer.ggml.pre`, as the models' own tokenizer.json have it.
_PIPELINES = {
    "gpt-2": _Pipeline((_WORDS,)),
    "llama-bpe": _Pipeline((_split("{1,3}"), _BYTES), ignore_merges=True),
    "qwen2": _Pipeline((_split(""), _BYTES), normalizers.NFC()),
    "smollm": _Pipeline((_DIGITS, _WORDS)),
}


def write_tokenizer_files(header: GgufHeader, directory: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, with the chat template.

    Raises:
        CheckpointError: The file has no tokenizer, or one of a kind that is not built.
    """
    kind = header.text("tokenizer.ggml.model")
    if kind not in _BUILDERS:
        rule = f"must be one of {', '.join(_BUILDERS)}"
        raise header.refusal("tokenizer.ggml.model", rule, kind)
    _BUILDERS[kind](header).save(str(directory / "tokenizer.json"))
    config = _configuration(header)
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def _configuration(header: GgufHeader) -> dict[str, object]:
    tokens = header.texts("tokenizer.ggml.tokens")
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    for name, key in _NAMED_TOKENS.items():
        token_id = header.integer(f"tokenizer.ggml.{key}", -1)
        if 0 <= token_id < len(tokens):
            config[name] = tokens[token_id]
    if template := header.text("tokenizer.chat_template", ""):
        config["chat_template"] = template
    return config


@dataclass(frozen=True)
class _Vocabulary:
    """The tokens of a file in the order of their ids, and of which kind each is."""

    tokens: list[str]
    kinds: list[int]

    @classmethod
    def read(cls, header: GgufHeader) -> Self:
        tokens = header.texts("tokenizer.ggml.tokens")
        kinds = header.integers("tokenizer.ggml.token_type")
        if len(tokens) != len(kinds):
            rule = f"must have one for each of the {len(tokens)} tokens"
            raise header.refusal("tokenizer.ggml.token_type", rule, len(kinds))
        return cls(tokens, kinds)

    def ids(self) -> dict[str, int]:
        """Number all tokens, added ones too: a fresh tokenizer would put those at the end."""
        pairs = enumerate(zip(self.tokens, self.kinds, strict=True))
        return {token: token_id for token_id, (token, kind) in pairs if kind != TokenType.UNUSED}

    def added(self) -> list[AddedToken]:
        """Return what is found in a text before it is split into words."""
        return [
            AddedToken(token, special=kind == TokenType.CONTROL, normalized=False)
            for token, kind in zip(self.tokens, self.kinds, strict=True)
            if kind in (TokenType.CONTROL, TokenType.USER_DEFINED)
        ]


def _byte_level(header: GgufHeader) -> Tokenizer:
    pre = header.text("tokenizer.ggml.pre")
    if pre not in _PIPELINES:
        rule = f"must be one of {', '.join(_PIPELINES)}"
        raise header.refusal("tokenizer.ggml.pre", rule, pre)
    pipeline, vocabulary = _PIPELINES[pre], _Vocabulary.read(header)
    merges = [
        (left, right)
        for left, _, right in (
            merge.partition(" ") for merge in header.texts("tokenizer.ggml.merges")
        )
    ]
    try:
        model = BPE(vocabulary.ids(), merges, ignore_merges=pipeline.ignore_merges)
    except Exception as error:  # tokenizers raises nothing narrower
        raise CheckpointError(f"{header.path}: tokenizer.ggml.merges: {error}") from error
    tokenizer = Tokenizer(model)
    if pipeline.normalizer:
        tokenizer.normalizer = pipeline.normalizer
    tokenizer.pre_tokenizer = Sequence(list(pipeline.splits))
    tokenizer.post_processor = ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(vocabulary.added())
    return tokenizer


def _sentence_pieces(header: GgufHeader) -> Tokenizer:
    """Build what transformers makes of a SentencePiece model: a BPE over letters, not bytes."""
    vocabulary = _Vocabulary.read(header)
    # The converter writes tokens that are nothing but spaces with spaces.
    pieces = [_SPACE * len(token) if not token.strip(" ") else token for token in vocabulary.tokens]
    vocabulary = _Vocabulary(pieces, vocabulary.kinds)
    ids = vocabulary.ids()
    unknown_id = header.integer("tokenizer.ggml.unknown_token_id", 0)
    if not 0 <= unknown_id < len(pieces):
        rule = f"must be below {len(pieces)}, the number of tokens"
        raise header.refusal("tokenizer.ggml.unknown_token_id", rule, unknown_id)
    model = BPE(ids, _merges(ids), unk_token=pieces[unknown_id], fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    spaces = normalizers.Replace(" ", _SPACE)
    decoding = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if header.metadata.get("tokenizer.ggml.add_space_prefix", True):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces])
        decoding.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.normalizer = spaces
    tokenizer.decoder = decoders.Sequence(decoding)
    tokenizer.add_tokens(vocabulary.added())
    return tokenizer


def _merges(ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return all pairs of tokens that make a token, in the order in which tokens were learned."""
    merges = [
        (token_id, piece[:at], piece[at:])
        for piece, token_id in ids.items()
        for at in range(1, len(piece))
        if piece[:at] in ids and piece[at:] in ids
    ]
    merges.sort(key=lambda merge: (merge[0], -len(merge[1])))
    return [(left, right) for _, left, right in merges]


_BUILDERS: Mapping[str, Callable[[GgufHeader], Tokenizer]] = {
    "gpt2": _byte_level,
    "llama": _sentence_pieces,
}
