"""Deciding in one forward pass: the template is known, so it is fed together with the prompt.

    prompt │ Conf idence :  ␠ │ 0 .          fed in one pass: the prompt, the stem, the draft
         ↓     ↓     ↓   ↓  ↓   ↓ ↓
        Conf idence  :   ␠ 0|1  . 0|2|5|7    what the tail's logits answer

`GreedyDecoder` accepts a drafted token only if it is the arg max over the whole vocabulary, so
it writes what `StepDecoder` writes. `ConstrainedDecoder` chooses among the template's tokens
only, so that a confidence always parses, and says how much mass the model gave to the template.
`ChoiceDecoder` does so where no other tokens have logits.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import takewhile

from foggen_runtime.bundle.manifest import HeadInfo
from foggen_runtime.decide.plain import (
    Decision,
    TokenEngine,
    full_reading,
    greedy_steps,
    last_rows,
)
from foggen_runtime.decide.trie import (
    ROOT,
    Float32,
    Node,
    Reading,
    TemplateTrie,
    read_levels,
    read_levels_of_columns,
)


class GreedyDecoder:
    """Greedy decoding that verifies drafts instead of stepping through them."""

    def __init__(
        self,
        engine: TokenEngine,
        trie: TemplateTrie,
        answer_prefix: Node,
        eos_token_ids: tuple[int, ...],
    ) -> None:
        self._engine = engine
        self._trie = trie
        self._answer_prefix = answer_prefix
        self._eos_token_ids = eos_token_ids
        self._written: list[int] = []
        self._decided = 0

    def decide(self, prompt: Sequence[int]) -> Decision:
        """Feed the prompt with the draft, then whatever the level reached still demands."""
        rows: dict[Node, Float32] = {}
        node: Node = ROOT
        start = time.perf_counter()
        accepted = self._verify(prompt, self._trie.drafts[0], (node, rows))
        prefill_ms = 1e3 * (time.perf_counter() - start)
        while True:
            for token in accepted:
                node = (*node, token)
                if node in self._trie.paths:
                    self._decided = len(node)
                    return Decision(
                        node,
                        self._trie.paths.index(node),
                        full_reading(self._trie, rows),
                        prefill_ms,
                    )
                if node not in self._trie.children:
                    return Decision(node, None, None, prefill_ms)
            accepted = self._verify(node[-1:], self._expected(node), (node, rows))

    def answer(self, max_new_tokens: int) -> Iterator[int]:
        """Yield what was verified beyond the separator, then step by step."""
        verified = self._written[self._decided :][:max_new_tokens]
        yield from verified
        yield from greedy_steps(
            self._engine,
            self._written[-1],
            max_new_tokens - len(verified),
            self._eos_token_ids,
        )

    def _expected(self, node: Node) -> Node:
        """Return what the template goes on with, up to the answer when no choice is left."""
        forced = self._trie.forced(node)
        ends = (*node, *forced) in self._trie.paths
        return (*forced, *self._answer_prefix) if ends else forced

    def _verify(
        self, fed: Sequence[int], draft: Node, visited: tuple[Node, dict[Node, Float32]]
    ) -> list[int]:
        """Feed tokens and a draft; return the draft's accepted part and the token after it."""
        node, rows = visited
        start = self._engine.cache.length + len(fed)
        logits = last_rows(self._engine, [*fed, *draft], len(draft) + 1)
        chosen: list[int] = logits.argmax(axis=-1).tolist()
        accepted = 0
        while accepted < len(draft) and chosen[accepted] == draft[accepted]:
            accepted += 1
        for depth in range(accepted + 1):
            rows[(*node, *draft[:depth])] = logits[depth]
        self._engine.cache.truncate(start + accepted)
        self._written.extend(chosen[: accepted + 1])
        return chosen[: accepted + 1]


class ConstrainedDecoder:
    """Reads the level among the template's branches; one pass when they lie on one draft."""

    def __init__(
        self,
        engine: TokenEngine,
        trie: TemplateTrie,
        answer_prefix: Node,
        eos_token_ids: tuple[int, ...],
        first_answer_ids: tuple[int, ...] | None = None,
    ) -> None:
        """Decode one question.

        Args:
            engine: Holds what the prompt given to `decide` continues.
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
        self._start = 0
        self._fed: Node = ROOT
        self._path: Node = ROOT

    def decide(self, prompt: Sequence[int]) -> Decision:
        """Feed the prompt with the draft, and other drafts where branches lie off it."""
        self._start = self._engine.cache.length + len(prompt)
        first, *others = self._trie.drafts
        start = time.perf_counter()
        logits = last_rows(self._engine, [*prompt, *first], len(first) + 1)
        prefill_ms = 1e3 * (time.perf_counter() - start)
        rows = {first[:depth]: row for depth, row in enumerate(logits)}
        self._fed = first
        for draft in others:
            shared = self._roll_back(draft)
            logits = last_rows(self._engine, draft[shared:], len(draft) - shared)
            rows |= {draft[: shared + 1 + i]: row for i, row in enumerate(logits)}
            self._fed = draft
        reading = self._read(rows)
        self._path = self._trie.paths[reading.level]
        return Decision(self._path, reading.level, reading, prefill_ms)

    def answer(self, max_new_tokens: int) -> Iterator[int]:
        """Yield the answer prefix, fed in one pass, then the answer step by step."""
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
        """Keep in the cache what `path` shares with what was fed; return how many tokens."""
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
    """Constrained decoding with an output head of some tokens: the answer is a letter, and ends."""

    def __init__(
        self,
        engine: TokenEngine,
        trie: TemplateTrie,
        answer_prefix: Node,
        eos_token_ids: tuple[int, ...],
        head: HeadInfo,
    ) -> None:
        """Decode one question; the arguments are `ConstrainedDecoder`'s and the head's tokens."""
        super().__init__(engine, trie, answer_prefix, eos_token_ids, head.answer_ids)
        self._columns = {token: column for column, token in enumerate(head.token_ids)}

    def _read(self, rows: dict[Node, Float32]) -> Reading:
        return read_levels_of_columns(self._trie, rows, self._columns)

    def _first(self, row: Float32) -> int:
        allowed = sorted(self._first_answer_ids or ())
        return allowed[int(row[[self._columns[token] for token in allowed]].argmax())]

    def _rest(self, token: int, count: int) -> Iterator[int]:
        """Yield the end, the only thing that may follow a letter: no pass is spent on it."""
        yield from self._eos_token_ids[: min(1, count)]
