"""Tokenizers to test on: the real Qwen3 one, and a tiny one of the same make.

The `*_backend` functions need only `tokenizers` (and `dashscope`'s data file for the real one);
the `*_tokenizer` functions need transformers. All return one shared object per run: copy it
(`copy.deepcopy`) before changing it.
"""

import base64
import functools
import importlib.util
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers.models import BPE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# In id order, the first is 151643 in the real tokenizer; True where Qwen calls them special.
QWEN3_ADDED_TOKENS = {
    "<|endoftext|>": True,
    "<|im_start|>": True,
    "<|im_end|>": True,
    "<|object_ref_start|>": True,
    "<|object_ref_end|>": True,
    "<|box_start|>": True,
    "<|box_end|>": True,
    "<|quad_start|>": True,
    "<|quad_end|>": True,
    "<|vision_start|>": True,
    "<|vision_end|>": True,
    "<|vision_pad|>": True,
    "<|image_pad|>": True,
    "<|video_pad|>": True,
    "<tool_call>": False,
    "</tool_call>": False,
    "<|fim_prefix|>": False,
    "<|fim_middle|>": False,
    "<|fim_suffix|>": False,
    "<|fim_pad|>": False,
    "<|repo_name|>": False,
    "<|file_sep|>": False,
    "<tool_response>": False,
    "</tool_response>": False,
    "<think>": False,
    "</think>": False,
}

# Renders what Qwen3's own template does.
QWEN3_CHAT_TEMPLATE = Path(__file__).parent.parent / "tiny_foggen" / "chat_template.jinja"

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TINY_VOCABULARY = 600
_TINY_TEXTS = (
    "You are a self-aware multiple-choice assistant. Rules: Do not output <think> tags.",
    "First, assess your confidence in solving this question. Then give your answer.",
    "Confidence: 0.75\nFinal answer: B",
    "Which of these planets is the largest?\nA) Mars\nB) Jupiter\nC) Venus\nD) Earth",
    "Қазақстанның астанасы қай қала? Какой город является столицей Казахстана?",
)
_EDGES = ("", "", " ", "  ", "\n", "\n\n", "\t", "\r\n", " \n \t", "\u00a0", "\u3000")
_FRAGMENTS = (
    "What is the capital of France?",
    "A) Paris\nB) Lyon\nC) Nice",
    "it's they'LL we've",
    "Қазақстанның астанасы қай қала? Әл-Фараби, өзен, ұшақ, үй, \u04bb, \u0456",
    "Какая из этих планет самая большая? Ёлка и ёжик",
    "\u0435\u0308\u0438\u0306",  # Cyrillic letters, decomposed
    "cafe\u0301 A\u030a \u1e9b\u0323 \u212b",
    "\u0301\u0323 combining first",
    "哪个城市是法国的首都\uff1f 東京、ﬁ ﾊﾝｶｸ",
    "ما هي عاصمة فرنسا؟ \u200f\u0662\u0660\u0662\u0664",
    "각 \u1100\u1161\u11a8 한국어",
    "हिन्दी क\u093c \u0958",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 👍🏽 🇰🇿 e\u20dd",
    "def f(x):\n\treturn {'a': x**2 != 3}  # ok\r\n",
    "for(;;){ i+=0x1F; } /* … */ <div class='a'>&amp;</div>",
    "3.14159265358979323846 1234567890123456789012345 ١٢٣ ½ x²",
    "$E=mc^2$ \\frac{a}{b} ∫₀^∞ e^{-x}dx ≤ √2",
    "<|im_ start|> <thin k> < think> <|im_end> |im_end|> <tool-call>",
    "\x00\x1b[0m\ufeff\u200b\u2028",
    "\U0001d54f \U000e0001 \ufffd \uffff",
    "!!! ... ---- ////// ????",
    "      six spaces",
)


# What vocabularies are extended by, with every way there is to look for it.
DECOMPOSED = "\u212bngstrom"
ADDED_WORDS = (
    AddedToken("instrument"),
    AddedToken("instruments", normalized=False),
    AddedToken("int", single_word=True),
    AddedToken("mg", single_word=True, normalized=False),
    AddedToken("µg/mL", lstrip=True),
    AddedToken("C++", rstrip=True, normalized=False),
    AddedToken("№", lstrip=True, rstrip=True, single_word=True),
    AddedToken("café"),
    AddedToken("\u212b", normalized=False),  # NFC makes another character of it
    AddedToken(DECOMPOSED),
    AddedToken("    ", normalized=False),
    AddedToken("\n\n"),
    AddedToken("сұрақ"),
    AddedToken("😀"),
    AddedToken("C"),  # in the vocabulary before
)
_WORD_FRAGMENTS = (
    *(word.content for word in ADDED_WORDS),
    *("int4", "print", "an int, ints", "5 mg", "mgs", "e\u0301", "cafe\u0301", "\u00c5ngstrom"),
    *(" ", "  ", "\t", "\n", "\u3000", "_", "\u0301", "\u200d", "x", "9", "Confidence", "ё", "²"),
    *("instrumentsinstrument", "C++int", "A) ", "<", "<|im_", "\x85", "\x1c", "ₐ", "ⓐ"),
)


def varied_questions(count: int) -> list[str]:
    """Make questions of many scripts, with any whitespace around; none spells an added token."""
    chance = random.Random(7)
    questions = [left + text + right for text in _FRAGMENTS for left, right in ("  ", "\n\n")]
    while len(questions) < count:
        parts = [chance.choice(_EDGES)]
        for _ in range(chance.randint(1, 5)):
            text = chance.choice(_FRAGMENTS)
            start = chance.randrange(len(text)) if chance.random() < 0.5 else 0
            parts += [text[start:], chance.choice(_EDGES)]
        questions.append("".join(parts))
    return [question for question in questions if question.strip()]


def questions_with_words(count: int) -> list[str]:
    """Make texts of `ADDED_WORDS` and what may stand beside them; none spells a control token."""
    chance = random.Random(11)
    return ["".join(chance.choices(_WORD_FRAGMENTS, k=chance.randint(1, 9))) for _ in range(count)]


@functools.cache
def tiny_backend() -> Tokenizer:
    """Train a byte-level BPE of 600 tokens, made as Qwen3's, with its 26 added tokens."""
    tokenizer = _pipeline(BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=_TINY_VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TINY_TEXTS, trainer)
    return _with_added_tokens(tokenizer)


def extended_backend(words: Sequence[AddedToken] = ADDED_WORDS) -> Tokenizer:
    """Return the tiny tokenizer with ordinary words added to it."""
    backend = Tokenizer.from_str(tiny_backend().to_str())
    backend.add_tokens(list(words))
    return backend


@functools.cache
def qwen3_backend() -> Tokenizer:
    """Rebuild Qwen3's tokenizer, id for id, from the ranks that `dashscope` ships.

    Takes three seconds of CPU.
    """
    spec = importlib.util.find_spec("dashscope")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the real tokenizer needs dashscope's qwen.tiktoken")
    folder = Path(spec.submodule_search_locations[0])
    ranks = {}
    for line in (folder / "resources" / "qwen.tiktoken").read_bytes().splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    letters = byte_letters()
    spelled = {token: "".join(map(letters.__getitem__, token)) for token in ranks}
    merges = [
        (spelled[left], spelled[right])
        for left, right in (_last_merge(token, ranks) for token in ranks if len(token) > 1)
    ]
    vocabulary = {spelled[token]: rank for token, rank in ranks.items()}
    return _with_added_tokens(_pipeline(BPE(vocab=vocabulary, merges=merges)))


@functools.cache
def gemma_backend() -> Tokenizer:
    """Train a BPE of Gemma's make: spaces as `▁`, rare characters as bytes, runs of newlines whole.

    Nothing but those runs cuts the text between two control tokens.
    """
    tokenizer = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # to train on words
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=_TINY_VOCABULARY + 256,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{i:02X}>" for i in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TINY_TEXTS, trainer)
    # Trained as special ones, bytes are to be ordinary tokens.
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = [t for t in document["added_tokens"] if "0x" not in t["content"]]
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    newlines = ["\n" * count for count in range(1, 5)]
    tokenizer.add_tokens([AddedToken(run, normalized=False) for run in newlines])
    tokenizer.add_special_tokens(["<start_of_turn>", "<end_of_turn>"])
    return tokenizer


@functools.cache
def gemma_tokenizer() -> "PreTrainedTokenizerFast":
    """Wrap `gemma_backend` for transformers."""
    return _wrapped(gemma_backend(), eos="<eos>", pad="<pad>")


@functools.cache
def tiny_tokenizer() -> "PreTrainedTokenizerFast":
    """Wrap `tiny_backend` for transformers, with Qwen3's chat template."""
    return _wrapped(tiny_backend())


@functools.cache
def qwen3_tokenizer() -> "PreTrainedTokenizerFast":
    """Wrap `qwen3_backend` for transformers, with Qwen3's chat template."""
    return _wrapped(qwen3_backend())


def _wrapped(
    backend: Tokenizer, eos: str = "<|im_end|>", pad: str = "<|endoftext|>"
) -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, pad_token=pad)  # type: ignore[no-untyped-call]
    tokenizer.chat_template = QWEN3_CHAT_TEMPLATE.read_text(encoding="utf-8")
    return tokenizer


def _pipeline(model: BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    byte_level = pre_tokenizers.ByteLevel(
        add_prefix_space=False, trim_offsets=False, use_regex=False
    )
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _with_added_tokens(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_tokens(
        [
            AddedToken(content, special=special, normalized=False)
            for content, special in QWEN3_ADDED_TOKENS.items()
        ]
    )
    return tokenizer


def _last_merge(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """Split a token into the two that BPE joins last: merge with lower ranks until two remain."""
    rank = ranks[token]
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(parts[i] + parts[i + 1], rank) for i in range(len(parts) - 1)]
        best = joined.index(min(joined))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def byte_letters() -> dict[int, str]:
    """Map each byte to the printable letter that byte-level BPE writes it as."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {
        **{byte: chr(byte) for byte in printable},
        **{byte: chr(256 + i) for i, byte in enumerate(others)},
    }
