"""Bundles of small models with random weights, for what does not need a trained one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from foggen_exporter.architectures.decoder import (
    DecoderGraph,
    TensorSource,
    graph_inputs,
    graph_outputs,
)
from foggen_exporter.graphs.builder import GraphBuilder, WeightFile
from foggen_exporter.recipes.recipe import Recipe
from foggen_runtime.bundle.manifest import GraphInfo, HeadInfo, ModelInfo
from foggen_runtime.model.engine import Engine, EngineOptions
from foggen_runtime.model.kv_cache import KvCache

POSITIONS = 512


@dataclass(frozen=True)
class GraphOnly:
    """A graph without tokenizer or manifest."""

    path: Path
    model: ModelInfo
    graph: GraphInfo

    def engine(self) -> Engine:
        return Engine(self.path, self.graph, EngineOptions(threads=1), KvCache(self.model))


def export_graph(
    source: TensorSource,
    directory: Path,
    recipe: Recipe,
    tail: int = 7,
    head_ids: tuple[int, ...] | None = None,
) -> GraphOnly:
    directory.mkdir(parents=True, exist_ok=True)
    with WeightFile(directory / "model.onnx.data") as weights:
        g = GraphBuilder(weights)
        for _ in DecoderGraph(source, recipe, POSITIONS, tail, head_ids=head_ids).emit(g):
            pass
    config = source.config
    model = g.model(graph_inputs(config), graph_outputs(config, head_ids), "test")
    onnx.save_model(model, directory / "model.onnx")
    info = ModelInfo(
        name="random",
        revision=None,
        architecture=source.architecture,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        context_length=POSITIONS,
        eos_token_ids=config.eos_token_ids,
    )
    head = HeadInfo("choices", head_ids, head_ids) if head_ids else None
    graph = GraphInfo("model.onnx", tail, "1.27", head=head)
    return GraphOnly(directory / "model.onnx", info, graph)


def random_ids(count: int, vocab_size: int, seed: int = 0) -> list[int]:
    ids: list[int] = np.random.default_rng(seed).integers(0, vocab_size, size=count).tolist()
    return ids
