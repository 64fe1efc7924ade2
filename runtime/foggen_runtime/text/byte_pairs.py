"""Byte pair encoding over sorted arrays, which need no loading.

At every start the `tokenizers` library builds hash tables from the megabytes of a `tokenizer.json`,
and holds them in memory. Our arrays are made at export and mapped as they are. The ids are the same
as the library's.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from foggen_runtime.text.added_tokens import AddedToken, WordFinder
from foggen_runtime.text.splitting import Pipeline

_CACHED_WORDS = 4096
_CACHED_PAIRS = 8192
_FEW = 64  # bytes
_NEVER = 1 << 64
_GONE = -1
_LOW = (1 << 32) - 1
_LENGTH_BYTES = 8
_DTYPES = {"U8": "<u1", "U32": "<u4", "U64": "<u8"}


def _byte_letters() -> str:
    """Return GPT-2's printable letter for each byte."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = count(0x100)
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(0x100))


BYTE_LETTERS = _byte_letters()
_BYTES = {letter: byte for byte, letter in enumerate(BYTE_LETTERS)}


@dataclass(frozen=True)
class TokenTables:
    """A byte-level BPE vocabulary.

    Attributes:
        pairs: Pairs that merge, (merges,) uint64 in ascending order: left id << 32 | right id.
        ranks: Each pair's rank, (merges,) uint32; the lowest merges first.
        merged: The id each pair turns into, (merges,) uint32.
        text: The spellings of all tokens in order of their ids, (bytes,) uint8.
        ends: Where in `text` each token ends, (vocabulary,) uint32; unused ids are empty.
        settings: The rest of `tokenizer.json` as UTF-8, (bytes,) uint8.
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
        """Return a token as the vocabulary spells it; None for an unused id."""
        if not 0 <= token_id < len(self.ends):
            return None
        start = int(self.ends[token_id - 1]) if token_id else 0
        return self.text[start : self.ends[token_id]].tobytes().decode() or None


def _array(data: npt.NDArray[np.uint8], entry: dict[str, Any]) -> npt.NDArray[Any]:
    start, end = entry["data_offsets"]
    return np.frombuffer(data[start:end].data, _DTYPES[entry["dtype"]]).reshape(entry["shape"])


class BytePairEncoder:
    """Merges a word's bytes as `tokenizers` does: by rank, then from left to right."""

    def __init__(self, tables: TokenTables, letters: Mapping[str, int]) -> None:
        """Prepare to merge.

        Args:
            tables: The merges.
            letters: The ids of the letters that stand for bytes. A byte without one is dropped from
                every text; SmolLM2 lacks 21 of them.
        """
        self._pairs = memoryview(tables.pairs)  # type: ignore[arg-type]
        self._ranks = memoryview(tables.ranks)  # type: ignore[arg-type]
        self._merged = memoryview(tables.merged)  # type: ignore[arg-type]
        self._byte_ids = [letters.get(letter) for letter in BYTE_LETTERS]
        self.encode = lru_cache(_CACHED_WORDS)(self._encode)
        # Most words are made of few pairs, and looking one up takes a microsecond.
        self._merge = lru_cache(_CACHED_PAIRS)(self._find)

    def _encode(self, word: str) -> tuple[int, ...]:
        """Return the ids of a word."""
        byte_ids = map(self._byte_ids.__getitem__, word.encode())
        ids = [token for token in byte_ids if token is not None]
        return tuple(self._merge_few(ids) if len(ids) <= _FEW else self._merge_many(ids))

    def _merge_few(self, ids: list[int]) -> list[int]:
        """Merge by looking at all pairs each time: twice as fast for an ordinary word."""
        merges = list(map(self._merge, ids, ids[1:]))
        while merges and (first := min(merges)) != _NEVER:
            at = merges.index(first)
            ids[at : at + 2] = [first & _LOW]
            del merges[at]
            if at:
                merges[at - 1] = self._merge(ids[at - 1], ids[at])
            if at < len(merges):
                merges[at] = self._merge(ids[at], ids[at + 1])
        return ids

    def _merge_many(self, ids: list[int]) -> list[int]:
        """Merge with a queue: a word may be as long as a question, so no quadratic time."""
        size = len(ids)
        before, after = list(range(-1, size)), list(range(1, size + 1))
        merges = map(self._merge, ids, ids[1:])
        # Rank and place in one integer, so that the lowest rank comes first, then the leftmost
        # place.
        queue = [merge & ~_LOW | at for at, merge in enumerate(merges) if merge != _NEVER]
        heapify(queue)
        while queue:
            entry = heappop(queue)
            at = entry & _LOW
            right = after[at]
            merge = self._merge(ids[at], ids[right]) if right < size else _NEVER
            if merge | _LOW != entry | _LOW:
                continue  # one of the two has been merged since
            ids[at], ids[right] = merge & _LOW, _GONE
            after[at] = after[right]
            before[after[at]] = at
            for left, other in ((before[at], at), (at, after[at])):
                if left >= 0 and other < size:
                    merge = self._merge(ids[left], ids[other])
                    if merge != _NEVER:
                        heappush(queue, merge & ~_LOW | left)
        return [token for token in ids if token != _GONE]

    def _find(self, left: int, right: int) -> int:
        """Return a pair's rank << 32 | new id; a larger number than any if it does not merge."""
        pair = left << 32 | right
        found = bisect_left(self._pairs, pair)
        if found == len(self._pairs) or self._pairs[found] != pair:
            return _NEVER
        return self._ranks[found] << 32 | self._merged[found]


class TableTokenizer:
    """Text to ids and back, merging by tables.

    Attributes:
        added_tokens: All added tokens.
    """

    def __init__(self, tables: TokenTables) -> None:
        """Read the tables' settings: what `tokenizer.json` says besides the vocabulary.

        Raises:
            UnknownStepError: They ask for something that is not implemented here.
        """
        settings = json.loads(tables.settings.tobytes())
        self.added_tokens = [AddedToken(**token) for token in settings["added_tokens"]]
        self._tables = tables
        self._pipeline = Pipeline.read(settings["pipeline"])
        self._whole: Mapping[str, int] = settings.get("whole", {})
        self._merged = BytePairEncoder(tables, settings["letters"]).encode
        words = [token for token in self.added_tokens if not token.is_control]
        self._has_words = bool(words)
        self._words = WordFinder(word for word in words if not word.normalized)
        self._normalized_words = WordFinder(
            (word for word in words if word.normalized), self._pipeline.normalized
        )

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a file of tables; errors are those of `TokenTables.map` and of the constructor."""
        return cls(TokenTables.map(path))

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text."""
        ids: list[int] = []
        for part in self._parts(text):
            if isinstance(part, AddedToken):
                ids.append(part.id)
                continue
            for word in self._pipeline.words(part):
                whole = self._whole.get(word)
                ids += self._merged(word) if whole is None else (whole,)
        return ids

    def decode(self, ids: Sequence[int], added: Mapping[int, str | None]) -> str:
        """Return the text of used ids; bytes that are not UTF-8 become U+FFFD."""
        tokens = (added[one] if one in added else self._tables.spelling(one) for one in ids)
        return b"".join(token_bytes(token) for token in tokens if token).decode(errors="replace")

    def _parts(self, text: str) -> Iterator[AddedToken | str]:
        """Yield the added words found, and the normalized text between them."""
        if not self._has_words:
            yield self._pipeline.normalized(text)
            return
        for part in self._words.parts(text):
            if isinstance(part, AddedToken):
                yield part
            else:
                yield from self._normalized_words.parts(self._pipeline.normalized(part))


def token_bytes(token: str) -> bytes:
    """Return the bytes a token stands for; its own text if it is not spelled in byte letters."""
    try:
        return bytes(map(_BYTES.__getitem__, token))
    except KeyError:
        return token.encode()
