"""Byte pair encoding over sorted arrays, which load at once.

The `tokenizers` library builds hash tables from the megabytes of a `tokenizer.json` at every start,
and keeps them. Arrays made at export are mapped as they are; the library still normalizes text and
splits it into words.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from foggen_runtime.text.added_tokens import ordinary_words, word_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CACHED_WORDS = 4096
_DEAD = -1
_LENGTH_BYTES = 8
_DTYPES = {"U8": "<u1", "U32": "<u4", "U64": "<u8"}


@dataclass(frozen=True)
class TokenTables:
    """A byte-level BPE vocabulary.

    Attributes:
        pairs: Pairs that merge, (merges,) uint64 in ascending order: left id << 32 | right id.
        ranks: Which pair merges first, (merges,) uint32.
        merged: The id a pair becomes, (merges,) uint32.
        text: The spellings of all tokens by ascending id, one after the other, (bytes,) uint8.
        ends: Where in `text` each token ends, (vocabulary,) uint32; ids without token are empty.
        settings: JSON as UTF-8, (bytes,) uint8: what else `tokenizer.json` says.
    """

    pairs: npt.NDArray[np.uint64]
    ranks: npt.NDArray[np.uint32]
    merged: npt.NDArray[np.uint32]
    text: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.uint32]
    settings: npt.NDArray[np.uint8]

    @classmethod
    def map(cls, path: Path) -> Self:
        """Map a safetensors file that holds the arrays by their names.

        The format: https://huggingface.co/docs/safetensors.

        Raises:
            OSError: It cannot be read.
            ValueError: It is not such a file.
            KeyError: An array is missing.
        """
        with path.open("rb") as file:
            header = file.read(int.from_bytes(file.read(_LENGTH_BYTES), "little"))
            start = file.tell()
        entries = json.loads(header)
        data = np.memmap(path, np.uint8, mode="r", offset=start)
        return cls(**{name: _array(data, entries[name]) for name in cls.__annotations__})

    def spelling(self, token_id: int) -> str | None:
        """Return a token as the vocabulary spells it; None where the id stands for none."""
        if not 0 <= token_id < len(self.ends):
            return None
        start = int(self.ends[token_id - 1]) if token_id else 0
        return self.text[start : self.ends[token_id]].tobytes().decode() or None


def _array(data: npt.NDArray[np.uint8], entry: dict[str, Any]) -> npt.NDArray[Any]:
    start, end = entry["data_offsets"]
    return np.frombuffer(data[start:end].data, _DTYPES[entry["dtype"]]).reshape(entry["shape"])


class BytePairEncoder:
    """Merges a word's letters as `tokenizers` does: by rank, and from the left among equals."""

    def __init__(self, tables: TokenTables, letters: Mapping[str, int]) -> None:
        """Take the tables.

        Args:
            tables: The merges.
            letters: The id of each of the 256 letters that stand for bytes.
        """
        self._pairs = memoryview(tables.pairs)  # type: ignore[arg-type]
        self._ranks = memoryview(tables.ranks)  # type: ignore[arg-type]
        self._merged = memoryview(tables.merged)  # type: ignore[arg-type]
        self._letters = letters
        self.encode = lru_cache(_CACHED_WORDS)(self._encode)

    def _encode(self, word: str) -> tuple[int, ...]:
        """Return the ids of a word whose bytes are spelled as letters."""
        ids = [self._letters[letter] for letter in word]
        before, after = list(range(-1, len(ids))), list(range(1, len(ids) + 1))
        queue = [merge for at in range(len(ids) - 1) if (merge := self._merge(ids, at, at + 1))]
        heapify(queue)
        while queue:
            _, at, pair, token = heappop(queue)
            right = after[at]
            if right == len(ids) or ids[at] << 32 | ids[right] != pair:
                continue
            ids[at], ids[right] = token, _DEAD
            after[at] = after[right]
            if after[at] < len(ids):
                before[after[at]] = at
            for left, other in ((before[at], at), (at, after[at])):
                if left >= 0 and other < len(ids) and (merge := self._merge(ids, left, other)):
                    heappush(queue, merge)
        return tuple(token for token in ids if token != _DEAD)

    def _merge(self, ids: list[int], left: int, right: int) -> tuple[int, int, int, int] | None:
        """Return rank, place, pair and new id of two neighbours, if they merge."""
        pair = ids[left] << 32 | ids[right]
        found = bisect_left(self._pairs, pair)
        if found == len(self._pairs) or self._pairs[found] != pair:
            return None
        return self._ranks[found], left, pair, self._merged[found]


class TableTokenizer:
    """Text to ids and back, with the merges from tables.

    Attributes:
        added_tokens: The added tokens as `tokenizer.json` describes them.
    """

    def __init__(self, tables: TokenTables) -> None:
        """Take what `tokenizer.json` says around the vocabulary from the tables' settings."""
        settings = json.loads(tables.settings.tobytes())
        self.added_tokens: list[dict[str, Any]] = settings["added_tokens"]
        self._tables = tables
        words = ordinary_words(self.added_tokens)
        self._pipeline = _pipeline(settings, words)
        self._words = word_ids(self._pipeline, words)
        self._encode = BytePairEncoder(tables, settings["letters"]).encode

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read tables; errors are those of `TokenTables.map`."""
        return cls(TokenTables.map(path))

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text."""
        pieces = self._between_words(text) if self._words else map(self._encode, self._split(text))
        return [token for piece in pieces for token in piece]

    def token(self, token_id: int) -> str | None:
        """Return a token's spelling, None where the id stands for none."""
        return self._tables.spelling(token_id)

    def join(self, tokens: Sequence[str]) -> str:
        """Return the text of spelled tokens."""
        decoder = self._pipeline.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    def _split(self, text: str) -> Iterator[str]:
        """Yield words whose bytes are spelled as letters."""
        normalizer, splitter = self._pipeline.normalizer, self._pipeline.pre_tokenizer
        normal = text if normalizer is None else normalizer.normalize_str(text)
        return (word for word, _ in splitter.pre_tokenize_str(normal))

    def _between_words(self, text: str) -> Iterator[tuple[int, ...]]:
        """Yield the ids of each word, where some are in the vocabulary as a whole.

        Only `encode` of the library looks for them. It gives the letters of all others one by one,
        which takes three times as long as splitting.
        """
        encoding = self._pipeline.encode(text, add_special_tokens=False)
        letters = zip(encoding.word_ids, encoding.ids, encoding.tokens, strict=True)
        for _, word in groupby(letters, key=itemgetter(0)):
            _, ids, spelled = zip(*word, strict=True)
            if len(ids) == 1 and ids[0] in self._words:
                yield (self._words[ids[0]],)
            else:
                yield self._encode("".join(spelled))


def _pipeline(settings: dict[str, Any], words: list[dict[str, Any]]) -> "Tokenizer":
    """Build a tokenizer of letters and whole words; the library is imported when it is needed."""
    from tokenizers import Tokenizer

    letters = {letter: token_id for token_id, letter in enumerate(settings["letters"])}
    model = {"type": "BPE", "vocab": letters, "merges": []}
    document = {**settings["pipeline"], "model": model, "added_tokens": words}
    return Tokenizer.from_str(json.dumps(document))
