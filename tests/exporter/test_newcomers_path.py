"""What a newcomer follows of one weight is short; `tests/support/hops.py` says what counts."""

from pathlib import Path

import pytest

from foggen_exporter.architectures.decoder import DecoderGraph
from foggen_exporter.architectures.layer_graph import LayerGraph, Product
from foggen_exporter.graphs.builder import GraphBuilder, WeightFile
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.weights.checkpoint import Checkpoint
from tests.conftest import TINY
from tests.support.hops import hops


@pytest.mark.parametrize(
    ("word", "matrix"), [("products", "qkv_proj"), ("linear", "o_proj"), ("linear", "down_proj")]
)
def test_an_int4_weight_takes_12_hops(
    word: str, matrix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the family's file, which names the matrix, to its bytes and its node."""
    paths: list[list[str]] = []
    emit = getattr(LayerGraph, word)

    def watched(m: LayerGraph, x: str | Product, name: str) -> object:
        if (m.index, name) != (0, matrix):
            return emit(m, x, name)
        results: list[object] = []
        paths.append(hops(lambda: results.append(emit(m, x, name))))
        return results[0]

    monkeypatch.setattr(LayerGraph, word, watched)
    graph = DecoderGraph(Checkpoint.open(TINY / "checkpoint"), find_recipe("int4"), 512, tail=7)
    with WeightFile(tmp_path / "weights") as weights:
        for _ in graph.emit(GraphBuilder(weights)):
            pass
    (path,) = paths
    assert 5 < len(path) <= 12, "\n".join(path)
