"""The decoding loop inside the model: `loop.onnx`, one call from any language.

    input_ids ── without the shipped prefix ── + draft ──┐
                                                         ▼
      ┌────────────────────────────── Loop ───────────────────────────────┐
      │  model.onnx: fed ids, KV cache → logits, KV cache                 │
      │  pass 0   read the level; keep = confidence >= tau, not malformed │
      │           feed next: the rest of the template, answer prefix      │
      │  pass k   the likeliest token; feed it next                       │
      │  go on    keep, and no end token, and room for another token      │
      └───────────────────────────────────────────────────────────────────┘
    token_ids: the level's tokens, and if kept the answer prefix and the answer

The body is the nodes of model.onnx as exported, so the loop follows any recipe, and its weights are
the same bytes of the same file. The cache rolls back by a shorter length, as in the host's loop:
attention reads no further. It begins with room for the longest way to the answer's first token, and
grows from there. `loop_parts.py` holds each part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from foggen_exporter.graphs.builder import Extent, GraphBuilder, external_tensor, tensor_info
from foggen_exporter.graphs.loop_parts import (
    AFTER_LOOP,
    BEFORE_MODEL,
    NEXT_TOKEN,
    READ_LEVEL,
    SKIP_PREFIX,
    LoopTables,
    padded,
    parsed,
)
from foggen_runtime.bundle.manifest import ModelInfo, PromptInfo, TemplateInfo

LOOP_FILE = "loop.onnx"

# What a pass hands to the next besides the KV cache. Each is called `first_…` before the loop,
# `now_…` in a pass, `read_…` or `step_…` in a branch, `next_…` after it, and by its bare name after
# the loop.
_STATE: Mapping[str, tuple[npt.DTypeLike, list[int | str]]] = {
    "fed": (np.int64, [1, "fed_length"]),
    "held": (np.int64, []),
    "level": (np.int64, []),
    "level_probabilities": (np.float32, ["levels"]),
    "template_probability": (np.float32, []),
    "kept": (np.bool_, []),
}
_END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class LoopGraph:
    """Wraps a bundle's graph in its decoding loop.

    Attributes:
        graph: model.onnx, its weights not loaded.
        model: The model's shape.
        template: What the model writes.
        prompt: Whose prefix the snapshot holds.
        snapshot: The prefix snapshot's file, beside model.onnx, if there is one.
    """

    graph: onnx.ModelProto
    model: ModelInfo
    template: TemplateInfo
    prompt: PromptInfo
    snapshot: Path | None

    def build(self) -> onnx.ModelProto:
        """Return the loop as a model.

        Raises:
            ConfigError: The template branches off its draft, so one pass cannot read it.
        """
        tables = LoopTables.of(self.template)
        g = GraphBuilder(None)
        self._constants(g, tables)
        for tensor in self.graph.graph.initializer:
            if tensor.name in g.initializers:
                raise ValueError(f"initializer {tensor.name}: the loop has one of this name")
            g.initializers[tensor.name] = tensor
        self._check_inputs(g, tables)
        g.nodes.extend(parsed(SKIP_PREFIX))
        self._loop(g)
        g.nodes.extend(parsed(AFTER_LOOP))
        inputs = [
            tensor_info("input_ids", np.int64, [1, "prompt_length"]),
            tensor_info("tau", np.float32, []),
            tensor_info("max_new_tokens", np.int64, []),
        ]
        outputs = [
            tensor_info("token_ids", np.int64, ["token_count"]),
            tensor_info("confidence", np.float32, []),
            tensor_info("level_probabilities", np.float32, [len(tables.paths)]),
            tensor_info("template_probability", np.float32, []),
            tensor_info("deferred", np.bool_, []),
        ]
        return g.model(inputs, outputs, self.graph.producer_version)

    @property
    def _cached_ids(self) -> tuple[int, ...]:
        return self.prompt.prefix_ids if self.snapshot else ()

    def _template_length(self, tables: LoopTables) -> int:
        """Return the most tokens before the answer's first."""
        return max(map(len, tables.paths)) + len(self.template.answer_prefix_ids)

    def _constants(self, g: GraphBuilder, tables: LoopTables) -> None:
        prefix, answer_prefix = self._cached_ids, self.template.answer_prefix_ids
        paths, path_lengths = padded(tables.paths)
        continuations, continuation_lengths = padded(tables.continuations)
        integers: dict[str, npt.ArrayLike] = {
            "zero": 0,
            "single": 1,
            "at_0": [0],
            "at_1": [1],
            "minus_1": [-1],
            "ends": [_END],
            "prefix_ids": np.reshape(prefix, (1, -1)),
            "prefix_length": len(prefix),
            "prefix_lengths": [len(prefix)],
            "filler": np.full((1, len(prefix)), -1),
            "template_length": self._template_length(tables),
            "one_by_heads": [1, self.model.num_key_value_heads],
            "head_dims": [self.model.head_dim],
            "draft": tables.draft[None],
            "minus_rows": [-1 - len(tables.draft)],
            "children": tables.children,
            "width": tables.children.shape[1],
            "factors": tables.factors,
            "shared": tables.shared,
            "continuations": continuations,
            "continuation_lengths": continuation_lengths,
            "paths": paths,
            "path_lengths": path_lengths,
            "answer_prefix": answer_prefix,
            "answer_prefix_length": len(answer_prefix),
            "eos_token_ids": self.model.eos_token_ids,
            "context_length": self.model.context_length,
            "first_level": 0,
        }
        floats: dict[str, npt.ArrayLike] = {
            "nothing": 0,
            "certain": [1],
            "off_on": [0, 1],
            "never": -np.inf,
            "levels": self.template.level_values,
            "min_template_probability": self.template.min_template_probability,
            "first_level_probabilities": np.zeros(len(tables.paths)),
            "first_template_probability": 0,
        }
        for name, integer in integers.items():
            g.constant(name, integer, np.int64)
        for name, number in floats.items():
            g.constant(name, number, np.float32)
        g.constant("allowed", tables.allowed, np.bool_)
        g.constant("visited", tables.visited, np.bool_)
        g.constant("first_kept", False, np.bool_)
        g.constant("goes", True, np.bool_)

    def _check_inputs(self, g: GraphBuilder, tables: LoopTables) -> None:
        """Fail on invalid inputs.

        ONNX has no assertions, but an index out of bounds fails. The node is named after the rule,
        because onnxruntime's message shows its name.
        """
        room = self.model.context_length - self._template_length(tables) - 1
        g.constant("room", room, np.int64)
        g.constant("tau_least", 0, np.float32)
        g.constant("tau_most", 1, np.float32)
        rules = {
            "tau: must be at least 0": ("GreaterOrEqual", "tau", "tau_least"),
            "tau: must be at most 1": ("LessOrEqual", "tau", "tau_most"),
            "max_new_tokens: must be at least 1": ("GreaterOrEqual", "max_new_tokens", "single"),
            "input_ids: must not be empty": ("GreaterOrEqual", "given_length", "single"),
            f"input_ids: must be at most {room}": ("LessOrEqual", "given_length", "room"),
        }
        length = g.op("Size", ["input_ids"], "given_length")
        for rule, comparison in rules.items():
            length = _require(g, rule, comparison, length)
        g.op("Identity", [length], "prompt_length")

    def _loop(self, g: GraphBuilder) -> None:
        """Emit the loop: the state, then the cache, then the token that each pass gives."""
        pasts = self._kv_cache("past_key_values", "past_length")
        presents = self._kv_cache("present", "present_length")
        inputs = [
            tensor_info("pass_number", np.int64, []),
            tensor_info("goes_on_before", np.bool_, []),
            *_state("now"),
            *pasts,
        ]
        goes_on, token = (_flow("next", name) for name in ("goes_on", "token"))
        outputs = [goes_on, *_state("next"), *presents, token]
        body = g.body()
        body.nodes.extend(parsed(BEFORE_MODEL))
        body.nodes.extend(_renamed(self.graph.graph.node, "input_ids", "now_fed"))
        branches = {
            "then_branch": _branch("read_level", READ_LEVEL, "read"),
            "else_branch": _branch("next_token", NEXT_TOKEN, "step"),
        }
        chosen = [info.name for info in (goes_on, *_state("next"), token)]
        body.op("If", ["is_first"], chosen, branches)
        first = [f"first_{name}" for name in _STATE]
        last = [f"last_{info.name}" for info in presents]
        g.op(
            "Loop",
            ["most_passes", "goes", *first, *self._first_cache(g)],
            [*_STATE, *last, "tokens"],
            {"body": body.subgraph("pass", inputs, outputs)},
        )

    def _kv_cache(self, prefix: str, length: str) -> list[onnx.ValueInfoProto]:
        shape: list[int | str] = [1, self.model.num_key_value_heads, length, self.model.head_dim]
        return [
            tensor_info(f"{prefix}.{layer}.{part}", np.float32, shape)
            for layer in range(self.model.num_hidden_layers)
            for part in ("key", "value")
        ]

    def _first_cache(self, g: GraphBuilder) -> list[str]:
        """Add the prefix's keys and values, read from the snapshot as they lie there, and room."""
        names = [info.name for info in self._kv_cache("past_key_values", "")]
        if self.snapshot is None:
            return ["padding"] * len(names)
        shape = (1, self.model.num_key_value_heads, len(self._cached_ids), self.model.head_dim)
        size = 4 * int(np.prod(shape))
        offset = np.load(self.snapshot, mmap_mode="r", allow_pickle=False).offset
        caches = []
        for number, name in enumerate(names):
            extent = Extent(offset + number * size, size)
            prefix, kind = f"prefix.{name}", np.dtype(np.float32)
            g.initializers[prefix] = external_tensor(
                prefix, shape, kind, self.snapshot.name, extent
            )
            inputs = [prefix, "padding"]
            caches.append(g.op("Concat", inputs, f"first_{name}", {"axis": 2}))
        return caches


def write_loop(
    graph: Path, model: ModelInfo, template: TemplateInfo, prompt: PromptInfo, snapshot: Path | None
) -> None:
    """Write the loop inside the model next to a bundle's own graph.

    Args:
        graph: The bundle's model.onnx.
        model: Its shape.
        template: What the model writes.
        prompt: Whose prefix the snapshot holds.
        snapshot: The prefix snapshot's file, if there is one.

    Raises:
        ConfigError: The template branches off its draft.
    """
    whole = onnx.load_model(graph, load_external_data=False)
    loop = LoopGraph(whole, model, template, prompt, snapshot)
    onnx.save_model(loop.build(), graph.with_name(LOOP_FILE))


def _state(prefix: str) -> list[onnx.ValueInfoProto]:
    return [tensor_info(f"{prefix}_{name}", *kind) for name, kind in _STATE.items()]


def _flow(prefix: str, name: str) -> onnx.ValueInfoProto:
    return tensor_info(f"{prefix}_{name}", np.bool_ if name == "goes_on" else np.int64, [])


def _branch(name: str, text: str, prefix: str) -> onnx.GraphProto:
    outputs = [_flow(prefix, "goes_on"), *_state(prefix), _flow(prefix, "token")]
    return helper.make_graph(parsed(text), name, [], outputs)


def _renamed(nodes: Sequence[onnx.NodeProto], old: str, new: str) -> Sequence[onnx.NodeProto]:
    """Return the nodes with one input renamed: a loop's body must not shadow an outer name."""
    renamed = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [new if name == old else name for name in node.input]
        renamed.append(copy)
    return renamed


def _require(g: GraphBuilder, rule: str, comparison: tuple[str, str, str], value: str) -> str:
    """Let `value` through where a comparison holds."""
    operator, left, right = comparison
    number = len(g.nodes)
    holds = g.op(operator, [left, right], f"holds_{number}")
    index = g.op("Where", [holds, "zero", "single"], f"violated_{number}")
    only = g.constant("only_0", [0], np.int64)
    nothing = g.op("Gather", [only, index], f"nothing_{number}")
    g.nodes[-1].name = rule
    return g.op("Add", [value, nothing], f"checked_{number}")
