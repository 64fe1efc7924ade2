"""The template as a trie of token ids: which tokens may follow which, up to each level's end.

    Conf idence :  ␠ ─┬─ 0 . ─┬─ 0 ⏎          a node is the tuple of ids that lead to it;
    └──── stem ────┘  │       ├─ 2 5 ⏎        it branches when it has several children;
                      │       ├─ 5 ⏎          a level's leaf is the separator after it,
                      │       └─ 7 5 ⏎        so that no level is a prefix of another
                      └─ 1 . 0 ⏎

To know every level's probability, the model need only be asked at the branching nodes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.manifest import TemplateInfo

Node = tuple[int, ...]
ROOT: Node = ()


@dataclass(frozen=True)
class TemplateTrie:
    """What the model may write to state its confidence.

    Attributes:
        paths: For each level, the ids from the first token of its span to the separator.
    """

    paths: tuple[Node, ...]

    def __post_init__(self) -> None:
        for one in self.paths:
            for other in self.paths:
                if one is not other and other[: len(one)] == one:
                    raise ValueError(f"level_ids: no level may begin with another, {one} does")

    @classmethod
    def of(cls, template: TemplateInfo) -> "TemplateTrie":
        """Build the trie of a manifest's template."""
        return cls(tuple((*ids, *template.separator_ids) for ids in template.level_ids))

    @cached_property
    def children(self) -> Mapping[Node, Node]:
        """The ids that may follow each inner node, in ascending order."""
        following: dict[Node, set[int]] = {}
        for path in self.paths:
            for depth, token in enumerate(path):
                following.setdefault(path[:depth], set()).add(token)
        return {node: tuple(sorted(tokens)) for node, tokens in following.items()}

    @cached_property
    def branches(self) -> tuple[Node, ...]:
        """The nodes with several children, the deepest first."""
        nodes = [node for node, tokens in self.children.items() if len(tokens) > 1]
        return tuple(sorted(nodes, key=len, reverse=True))

    @cached_property
    def drafts(self) -> tuple[Node, ...]:
        """The fewest drafts that visit every branching node; with one level, its whole stem."""
        if not self.branches:
            return (self.paths[0][:-1],)
        drafts: list[Node] = []
        for node in self.branches:
            if not any(draft[: len(node)] == node for draft in drafts):
                drafts.append(node)
        return tuple(drafts)

    def rows_needed(self, answer_prefix: Node) -> int:
        """Return how many rows of logits one pass must give to verify any draft.

        That is a draft and the token before it, or the way from the last branch to the answer.
        """
        drafted = max(len(draft) for draft in self.drafts) + 1
        last_branches = [
            max((len(node) for node in self.branches if path[: len(node)] == node), default=0)
            for path in self.paths
        ]
        pairs = zip(self.paths, last_branches, strict=True)
        followed = max(len(path) - depth for path, depth in pairs) + len(answer_prefix)
        return max(drafted, followed)

    def forced(self, node: Node) -> Node:
        """Return the tokens that must follow a node before the next choice or the leaf."""
        tokens: list[int] = []
        while len(choices := self.children.get((*node, *tokens), ())) == 1:
            tokens.append(choices[0])
        return tuple(tokens)


@dataclass(frozen=True)
class Reading:
    """The levels as read from logits.

    Attributes:
        level: Index of the level on the greedy walk: what greedy decoding would have written.
        level_probabilities: One per level: the product of softmaxes over each node's children.
        template_probability: How likely the model was to stay in the template: at each visited node
            of the walk, the probability over the whole vocabulary that one of the node's children
            comes next, all multiplied. None where only some tokens get logits.
    """

    level: int
    level_probabilities: tuple[float, ...]
    template_probability: float | None


def read_levels(trie: TemplateTrie, rows: Mapping[Node, Float32]) -> Reading:
    """Read the levels from the logits after each visited node.

    Args:
        trie: The template.
        rows: Logits (vocab_size,) by node; must have every branching node.
    """
    shares = {node: _child_probabilities(trie, node, rows[node]) for node in trie.branches}
    walk: Node = ROOT
    template_log_probability = 0.0
    while walk in trie.children:
        if walk in rows:
            template_log_probability += _log_mass(rows[walk], trie.children[walk])
        walk = (*walk, _likeliest(trie, walk, rows))
    levels = tuple(_path_probability(path, shares) for path in trie.paths)
    return Reading(trie.paths.index(walk), levels, math.exp(template_log_probability))


def read_levels_of_columns(
    trie: TemplateTrie, rows: Mapping[Node, Float32], columns: Mapping[int, int]
) -> Reading:
    """As `read_levels`, from logits that only some tokens have.

    Nothing is known of the rest of the vocabulary, so there is no `template_probability`.

    Args:
        trie: The template.
        rows: Logits (columns,) by node.
        columns: The column of each token; must have all of the template's tokens.
    """
    paths = tuple(tuple(columns[token] for token in path) for path in trie.paths)
    by_column = {tuple(columns[token] for token in node): row for node, row in rows.items()}
    return replace(read_levels(TemplateTrie(paths), by_column), template_probability=None)


def _path_probability(path: Node, shares: Mapping[Node, Mapping[int, float]]) -> float:
    nodes = (path[:depth] for depth in range(len(path)))
    return math.prod(shares[node][path[len(node)]] for node in nodes if node in shares)


def _likeliest(trie: TemplateTrie, node: Node, rows: Mapping[Node, Float32]) -> int:
    tokens = trie.children[node]
    return tokens[0] if len(tokens) == 1 else tokens[int(rows[node][list(tokens)].argmax())]


def _child_probabilities(trie: TemplateTrie, node: Node, row: Float32) -> dict[int, float]:
    tokens = trie.children[node]
    logits = row[list(tokens)].astype(np.float64)
    weights = np.exp(logits - logits.max())
    return dict(zip(tokens, (weights / weights.sum()).tolist(), strict=True))


def _log_mass(row: Float32, tokens: Node) -> float:
    """Log of the probability that the next token is one of `tokens`."""
    shifted = np.exp(row - row.max())
    mass = float(shifted[list(tokens)].sum(dtype=np.float64) / shifted.sum(dtype=np.float64))
    return math.log(mass) if mass > 0 else -math.inf
