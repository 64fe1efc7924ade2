"""The decision in one forward pass.

Naive greedy decoding spends a pass on each token of `Confidence: 0.75` before it knows anything.
But all of it is known beforehand except the level's digits, and there are few of those. So:

    prompt │ Conf idence :  ␠ │ 0 .          1. fed in one pass: prompt, stem, draft
         ↓     ↓     ↓   ↓  ↓   ↓ ↓
        Conf idence  :   ␠ 0|1  . 0|2|5|7    2. what the last rows of logits say

1. **Feed** what the model would have written up to the last choice (`TemplateTrie.drafts`).
   Choices that do not lie on one path need one more pass each.
2. **Read** the level among the template's own branches, so that a confidence always parses. The
   same rows say how much probability the model gave to the template at all: if it is little, the
   question or the model does not suit the template.
3. Below tau we are done. Otherwise **roll back** the KV cache to what the level's text shares with
   what was fed, append the rest of the template in one pass, and write the answer step by step.

The level is the one that greedy decoding would have written, not the most probable leaf. They can
differ: p(`1`) = 0.45 beats 0.55 x 0.4 at the leaf, but `0` comes first on the walk.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import takewhile

from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.manifest import HeadInfo
from foggen_runtime.decide.plain import Decision, TokenEngine, greedy_steps, last_rows
from foggen_runtime.decide.trie import (
    ROOT,
    Node,
    Reading,
    TemplateTrie,
    read_levels,
    read_levels_of_columns,
)


class ConstrainedDecoder:
    """Reads the level among the template's branches, in one pass if one draft visits them all."""

    def __init__(
        self,
        engine: TokenEngine,
        trie: TemplateTrie,
        answer_prefix: Node,
        eos_token_ids: tuple[int, ...],
        first_answer_ids: tuple[int, ...] | None = None,
    ) -> None:
        """Decode questions.

        Args:
            engine: Its cache holds what comes before every prompt.
            trie: The template.
            answer_prefix: Ids between the separator and the answer.
            eos_token_ids: Tokens that end the answer.
            first_answer_ids: The only ids the answer may begin with; None for any.
        """
        self._engine = engine
        self._trie = trie
        self._answer_prefix = answer_prefix
        self._eos_token_ids = eos_token_ids
        self._first_answer_ids = first_answer_ids
        self._before = engine.cache.length
        self._start = 0
        self._fed: Node = ROOT
        self._path: Node = ROOT

    def decide(self, prompt: Sequence[int]) -> Decision:
        """Feed the prompt with the draft, then more drafts if it does not visit every branch."""
        self._engine.cache.truncate(self._before)
        self._start = self._before + len(prompt)
        # 1. Feed the prompt and the first draft; the row after each drafted token, and before.
        first, *others = self._trie.drafts
        start = time.perf_counter()
        logits = last_rows(self._engine, [*prompt, *first], len(first) + 1)
        prefill_ms = 1e3 * (time.perf_counter() - start)
        rows = {first[:depth]: row for depth, row in enumerate(logits)}
        self._fed = first
        # Branches off that path, if there are any: go back to where they part, and feed them.
        for draft in others:
            shared = self._roll_back(draft)
            logits = last_rows(self._engine, draft[shared:], len(draft) - shared)
            rows |= {draft[: shared + 1 + i]: row for i, row in enumerate(logits)}
            self._fed = draft
        # 2. Read the level, as greedy decoding would have walked the trie.
        reading = self._read(rows)
        self._path = self._trie.paths[reading.level]
        return Decision(self._path, reading.level, reading, prefill_ms)

    def answer(self, max_new_tokens: int) -> Iterator[int]:
        """Yield the answer prefix, fed in one pass, then the answer step by step."""
        # 3. Keep what the level and the draft have in common, and feed the rest of the template.
        path = (*self._path, *self._answer_prefix)
        shared = self._roll_back(path)
        row = self._engine.forward(path[shared:])[-1]
        yield from self._answer_prefix[:max_new_tokens]
        left = max_new_tokens - len(self._answer_prefix)
        if left <= 0:
            return
        token = self._first(row)
        yield token
        yield from self._rest(token, left - 1)

    def _read(self, rows: dict[Node, Float32]) -> Reading:
        return read_levels(self._trie, rows)

    def _rest(self, token: int, count: int) -> Iterator[int]:
        """Yield at most `count` ids after the answer's first."""
        return greedy_steps(self._engine, token, count, self._eos_token_ids)

    def _roll_back(self, path: Node) -> int:
        """Cut the cache to what `path` shares with what was fed; return how many tokens that is."""
        pairs = takewhile(lambda pair: pair[0] == pair[1], zip(path, self._fed, strict=False))
        shared = sum(1 for _ in pairs)
        self._engine.cache.truncate(self._start + shared)
        return shared

    def _first(self, row: Float32) -> int:
        if self._first_answer_ids is None:
            return int(row.argmax())
        allowed = sorted(self._first_answer_ids)
        return allowed[int(row[allowed].argmax())]


class ChoiceDecoder(ConstrainedDecoder):
    """Constrained decoding with a reduced output head: the answer is one letter."""

    def __init__(
        self,
        engine: TokenEngine,
        trie: TemplateTrie,
        answer_prefix: Node,
        eos_token_ids: tuple[int, ...],
        head: HeadInfo,
    ) -> None:
        """Decode questions; takes `ConstrainedDecoder`'s arguments and the head's tokens."""
        super().__init__(engine, trie, answer_prefix, eos_token_ids, head.answer_ids)
        self._columns = {token: column for column, token in enumerate(head.token_ids)}

    def _read(self, rows: dict[Node, Float32]) -> Reading:
        return read_levels_of_columns(self._trie, rows, self._columns)

    def _first(self, row: Float32) -> int:
        allowed = sorted(self._first_answer_ids or ())
        return allowed[int(row[[self._columns[token] for token in allowed]].argmax())]

    def _rest(self, token: int, count: int) -> Iterator[int]:
        """Yield the end of the answer without a pass: nothing else may follow a letter."""
        yield from self._eos_token_ids[: min(1, count)]
