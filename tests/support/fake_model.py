"""A model that is none: it knows one question and is sure of it, and unsure of all others.

Everything between its logits and the answer is real: prompt, trie, decoders, streamed text. So
tests of asking, serving and handing off need no bundle.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import (
    FORMAT_VERSION,
    TOKENIZER_FILE,
    FileInfo,
    GraphInfo,
    Manifest,
    ModelInfo,
    PromptInfo,
    QuantizationInfo,
    RoutingInfo,
    TemplateInfo,
)
from foggen_runtime.model.decoders import Decoders
from foggen_runtime.text.added_tokens import AddedToken
from foggen_runtime.text.tokenizer import QuestionTokenizer
from tests.support.fake_engine import FakeEngine

SURE = "What is the capital of France?\nA) Paris\nB) Rome"
UNSURE = "Which river is the longest of all?\nA) Nile\nB) Amazon"
REPLIES = {SURE: "Confidence: 1.0\nFinal answer: A"}
UNSURE_REPLY = "Confidence: 0.25\nFinal answer: B"

_LEVELS = ("0.0", "0.25", "0.5", "0.75", "1.0")
_ANSWER_PREFIX = "Final answer:"
# A token is a byte, but for these.
_BEFORE, _AFTER, _END = 256, 257, 258
_VOCABULARY = 259
_LIKELY = 12.0  # logit of what is written next: 99.8 % of the probability


def _ids(text: str) -> tuple[int, ...]:
    return tuple(text.encode())


_CONTEXT = 4096
MANIFEST = Manifest(
    FORMAT_VERSION,
    ModelInfo("fake", None, "Fake", 1, 1, 1, 1, _VOCABULARY, _CONTEXT, (_END,)),
    GraphInfo("model.onnx", 64, "1.27"),
    QuantizationInfo("fake", {}),
    PromptInfo("", (_BEFORE,), "", "", (_AFTER,)),
    TemplateInfo(
        _LEVELS,
        tuple(_ids(f"Confidence: {level}") for level in _LEVELS),
        _ids("\n"),
        _ANSWER_PREFIX,
        _ids(_ANSWER_PREFIX),
        0.5,
    ),
    None,
    RoutingInfo(0.5),
    {name: FileInfo(1, "0" * 64) for name in ("model.onnx", TOKENIZER_FILE)},
    {},
)


class ByteTokenizer:
    """Takes every byte of UTF-8 for a token."""

    def __init__(self) -> None:
        self.added_tokens: list[AddedToken] = []

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int], added: Mapping[int, str | None]) -> str:
        return bytes(one for one in ids if one < _BEFORE).decode(errors="replace")


class FakeModel:
    """What asking needs of a model, without a file.

    Args:
        replies: What it writes, by question.
        manifest: How it is to be asked.
    """

    def __init__(self, replies: Mapping[str, str] = REPLIES, manifest: Manifest = MANIFEST) -> None:
        self.bundle = Bundle(Path("no-such-directory"), manifest)
        self.tokenizer = QuestionTokenizer(ByteTokenizer())
        self.engine = FakeEngine(self._next_logits)
        self.engine.cache.tokens.extend(manifest.prompt.prefix_ids)
        self.prefix_source = "snapshot"
        self.prefix_length = self.engine.cache.length
        decoders = Decoders(self.engine, self.tokenizer, manifest)
        self.room, self.decoder = decoders.room, decoders.decoder
        self._replies = replies

    def _next_logits(self, context: tuple[int, ...]) -> Float32:
        row = np.zeros(_VOCABULARY, np.float32)
        row[_END] = 1.0  # what is off the script ends
        if _AFTER in context:
            after = context.index(_AFTER)
            question = bytes(context[1:after]).decode()
            script = (*_ids(self._replies.get(question, UNSURE_REPLY)), _END)
            written = context[after + 1 :]
            if written == script[: len(written)] and len(written) < len(script):
                row[script[len(written)]] = _LIKELY
        return row
