"""What the loop inside the model knows of the template: small tables, one row for each level.

The draft visits every branching node of the template, so a chunk that ends with the draft has a row
of logits for each node that has to be read: row `d` is read at the draft's first `d` tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foggen_runtime.bundle.manifest import TemplateInfo
from foggen_runtime.decide.trie import TemplateTrie
from foggen_runtime.errors import ConfigError

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LoopTables:
    """The template as arrays.

    Attributes:
        draft: (rows - 1,) token ids fed after the prompt.
        children: (rows, widest) ids that may follow each row's node, filled up with the first.
        allowed: (rows, widest) whether a child is one, and no filling.
        factors: (levels, rows) which of the flattened `children` a level takes at each row;
            `children.size` where the level has left the draft.
        visited: (levels, rows) whether a level's tokens are the draft's so far.
        paths: Each level's tokens, the separator included.
        continuations: Each level's tokens beyond what it shares with the draft, and the answer
            prefix after them.
        shared: (levels,) how many tokens each level shares with the draft.
    """

    draft: Int64
    children: Int64
    allowed: Bool
    factors: Int64
    visited: Bool
    paths: tuple[tuple[int, ...], ...]
    continuations: tuple[tuple[int, ...], ...]
    shared: Int64

    @classmethod
    def of(cls, template: TemplateInfo) -> "LoopTables":
        """Derive the tables.

        Raises:
            ConfigError: The template branches off its draft, so one pass cannot read it.
        """
        trie = TemplateTrie.of(template)
        if len(trie.drafts) > 1:
            raise ConfigError(
                f"loop: the template must branch along one draft, has {len(trie.drafts)}; "
                "export without --loop"
            )
        (draft,) = trie.drafts
        nodes = [draft[:depth] for depth in range(len(draft) + 1)]
        children = [trie.children[node] for node in nodes]
        widest = max(map(len, children))
        follows = [[path[: len(node)] == node for node in nodes] for path in trie.paths]
        factors = [
            [
                depth * widest + children[depth].index(path[depth]) if on_draft else -1
                for depth, on_draft in enumerate(levels)
            ]
            for path, levels in zip(trie.paths, follows, strict=True)
        ]
        shared = [sum(levels) - 1 for levels in follows]
        factor_table = np.array(factors, np.int64)
        factor_table[factor_table < 0] = len(nodes) * widest
        return cls(
            draft=np.array(draft, np.int64),
            children=np.array([[*ids, *ids[:1] * (widest - len(ids))] for ids in children]),
            allowed=np.array([[i < len(ids) for i in range(widest)] for ids in children]),
            factors=factor_table,
            visited=np.array(follows),
            paths=trie.paths,
            continuations=tuple(
                (*path[kept:], *template.answer_prefix_ids)
                for path, kept in zip(trie.paths, shared, strict=True)
            ),
            shared=np.array(shared, np.int64),
        )


def padded(rows: Sequence[Sequence[int]]) -> tuple[Int64, Int64]:
    """Return lists of ids as one (rows, longest) table filled up with zeros, and their lengths."""
    lengths = np.array([len(row) for row in rows], np.int64)
    table = np.zeros((len(rows), lengths.max()), np.int64)
    for row, ids in zip(table, rows, strict=True):
        row[: len(ids)] = ids
    return table, lengths
