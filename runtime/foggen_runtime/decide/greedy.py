"""Greedy decoding with a draft: token for token what the plain loop writes, in fewer passes.

The template is known, so what the model will most likely write is fed with the prompt. A drafted
token is accepted only if it is the arg max over the whole vocabulary; at the first that is not, the
KV cache is rolled back and the model's own token is written instead.
"""

import time
from collections.abc import Iterator, Sequence

from foggen_runtime.arrays import Float32
from foggen_runtime.decide.plain import (
    Decision,
    TokenEngine,
    full_reading,
    greedy_steps,
    last_rows,
)
from foggen_runtime.decide.trie import ROOT, Node, TemplateTrie


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
        self._before = engine.cache.length
        self._written: list[int] = []
        self._decided = 0

    def decide(self, prompt: Sequence[int]) -> Decision:
        """Feed the prompt with the draft, then the rest of the template to the end of the level."""
        self._engine.cache.truncate(self._before)
        self._written.clear()
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
        """Return how the template continues, up to the answer if no choice is left."""
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
