"""The parts of the loop inside the model; `loop.py` connects them.

The nodes of each part, in ONNX's own syntax. Names that begin with `first_`, `now_`, `read_`,
`step_` and `next_` are the loop's state: before it, in a pass, in either branch, after the branch.

And what they know of the template: small tables, one row for each level. The draft visits every
branching node of the template, so a chunk that ends with the draft has a row of logits for each
node that has to be read: row `d` is read at the draft's first `d` tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import parser

from foggen_runtime.bundle.manifest import TemplateInfo
from foggen_runtime.decide.trie import TemplateTrie
from foggen_runtime.errors import ConfigError

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

SKIP_PREFIX = """
    filled_ids = Concat <axis = 1> (input_ids, filler)
    head = Slice (filled_ids, at_0, prefix_lengths, at_1)
    equal = Equal (head, prefix_ids)
    equals = Cast <to = 7> (equal)
    equal_count = ReduceSum <keepdims = 0> (equals)
    all_equal = Equal (equal_count, prefix_length)
    has_more = Greater (prompt_length, prefix_length)
    is_cached = And (all_equal, has_more)
    first_held = Where (is_cached, prefix_length, zero)
    cached_end = Unsqueeze (first_held, at_0)
    rest = Slice (input_ids, cached_end, ends, at_1)
    first_fed = Concat <axis = 1> (rest, draft)
    most_passes = Add (max_new_tokens, single)
    template_end = Add (prompt_length, template_length)
    lacking = Sub (template_end, prefix_length)
    padding_length = Max (lacking, zero)
    padding_lengths = Unsqueeze (padding_length, at_0)
    padding_shape = Concat <axis = 0> (one_by_heads, padding_lengths, head_dims)
    padding = Expand (nothing, padding_shape)
"""

BEFORE_MODEL = """
    fed_length = Size (now_fed)
    total = Add (now_held, fed_length)
    totals = Unsqueeze (total, at_0)
    mask_shape = Concat <axis = 0> (at_1, totals)
    attention_mask = Expand (at_1, mask_shape)
    is_first = Equal (pass_number, zero)
"""

READ_LEVEL = """
    tail = Slice (logits, minus_rows, ends, at_1)
    rows = Squeeze (tail, at_0)
    wanted = GatherElements <axis = 1> (rows, children)
    candidates = Where (allowed, wanted, never)
    shares = Softmax <axis = 1> (candidates)
    flat_shares = Reshape (shares, minus_1)
    share_table = Concat <axis = 0> (flat_shares, certain)
    level_shares = Gather (share_table, factors)
    read_level_probabilities = ReduceProd <keepdims = 0> (level_shares, at_1)
    likeliest = ArgMax <axis = 1, keepdims = 0> (candidates)
    marks = OneHot (likeliest, width, off_on)
    flat_marks = Reshape (marks, minus_1)
    mark_table = Concat <axis = 0> (flat_marks, certain)
    level_marks = Gather (mark_table, factors)
    walked = ReduceProd <keepdims = 0> (level_marks, at_1)
    read_level = ArgMax <axis = 0, keepdims = 0> (walked)

    all_shares = Softmax <axis = 1> (rows)
    child_shares = GatherElements <axis = 1> (all_shares, children)
    allowed_shares = Where (allowed, child_shares, nothing)
    masses = ReduceSum <keepdims = 0> (allowed_shares, at_1)
    level_visited = Gather (visited, read_level)
    visited_masses = Where (level_visited, masses, certain)
    read_template_probability = ReduceProd <keepdims = 0> (visited_masses)

    read_confidence = Gather (levels, read_level)
    is_confident = GreaterOrEqual (read_confidence, tau)
    is_well_formed = GreaterOrEqual (read_template_probability, min_template_probability)
    read_kept = And (is_confident, is_well_formed)
    wants_answer = Greater (max_new_tokens, answer_prefix_length)
    read_goes_on = And (read_kept, wants_answer)

    continuation = Gather (continuations, read_level)
    continuation_length = Gather (continuation_lengths, read_level)
    continuation_end = Unsqueeze (continuation_length, at_0)
    continued = Slice (continuation, at_0, continuation_end, at_0)
    read_fed = Unsqueeze (continued, at_0)
    read_shared = Gather (shared, read_level)
    read_held = Add (prompt_length, read_shared)
    read_token = Identity (zero)
"""

NEXT_TOKEN = """
    last_row = Slice (logits, minus_1, ends, at_1)
    step_fed = ArgMax <axis = 2, keepdims = 0> (last_row)
    step_token = Squeeze (step_fed)
    is_end = Equal (step_token, eos_token_ids)
    are_ends = Cast <to = 7> (is_end)
    end_count = ReduceSum <keepdims = 0> (are_ends)
    no_end = Equal (end_count, zero)
    written = Add (pass_number, answer_prefix_length)
    wants_more = Less (written, max_new_tokens)
    has_room = Less (total, context_length)
    may_go_on = And (wants_more, has_room)
    step_goes_on = And (may_go_on, no_end)
    step_held = Identity (total)
    step_level = Identity (now_level)
    step_level_probabilities = Identity (now_level_probabilities)
    step_template_probability = Identity (now_template_probability)
    step_kept = Identity (now_kept)
"""

AFTER_LOOP = """
    deferred = Not (kept)
    confidence = Gather (levels, level)
    path = Gather (paths, level)
    path_length = Gather (path_lengths, level)
    path_end = Unsqueeze (path_length, at_0)
    path_ids = Slice (path, at_0, path_end, at_0)
    later_tokens = Slice (tokens, at_1, ends, at_0)
    all_answer_ids = Concat <axis = 0> (answer_prefix, later_tokens)
    answer_length = Where (kept, max_new_tokens, zero)
    answer_end = Unsqueeze (answer_length, at_0)
    answer_ids = Slice (all_answer_ids, at_0, answer_end, at_0)
    token_ids = Concat <axis = 0> (path_ids, answer_ids)
"""


def parsed(text: str) -> Sequence[onnx.NodeProto]:
    """Parse nodes written in ONNX's syntax, and name each by its output."""
    nodes: list[onnx.NodeProto] = list(parser.parse_graph(f"nodes () => () {{ {text} }}").node)
    for node in nodes:
        node.name = node.output[0]
    return nodes


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
