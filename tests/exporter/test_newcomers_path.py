"""How far a newcomer has to go to follow one weight into a bundle.

A hop is a call from one of our files into another, counted where it is first entered: a generator
that goes on is where one has been. Calls through other libraries count for who made them.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import pytest

from foggen_exporter.architectures.decoder import DecoderGraph
from foggen_exporter.architectures.layer_graph import LayerGraph, Product
from foggen_exporter.graphs.builder import GraphBuilder, WeightFile
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.weights.checkpoint import Checkpoint
from tests.conftest import TINY

PACKAGES = ("foggen_exporter", "foggen_runtime")
MOST_HOPS = 12


def our_file(code: CodeType) -> str | None:
    parts = Path(code.co_filename).parts
    return next(("/".join(parts[parts.index(name) :]) for name in PACKAGES if name in parts), None)


@contextmanager
def counted_hops() -> Iterator[list[str]]:
    """Collect every hop that is taken inside, from the file that takes the first."""
    hops: list[str] = []
    entered: list[FrameType] = []

    def on_event(frame: FrameType, event: str, _: object) -> None:
        there = our_file(frame.f_code)
        if event != "call" or there is None or any(frame is other for other in entered):
            return
        entered.append(frame)
        caller = frame.f_back
        while caller is not None and our_file(caller.f_code) is None:
            caller = caller.f_back
        here = our_file(caller.f_code) if caller else None
        if here != there:
            hops.append(f"{here} -> {there}: {frame.f_code.co_name}")

    sys.setprofile(on_event)
    try:
        yield hops
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize(
    ("word", "matrix"), [("products", "qkv_proj"), ("linear", "o_proj"), ("linear", "down_proj")]
)
def test_a_weight_takes_few_hops(
    word: str, matrix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the family's file, which names the matrix, to its bytes and its node."""
    taken: list[list[str]] = []
    emit = getattr(LayerGraph, word)

    def watched(m: LayerGraph, x: str | Product, name: str) -> object:
        if (m.index, name) != (0, matrix):
            return emit(m, x, name)
        with counted_hops() as hops:
            result = emit(m, x, name)
        taken.append(hops)
        return result

    monkeypatch.setattr(LayerGraph, word, watched)
    graph = DecoderGraph(Checkpoint.open(TINY / "checkpoint"), find_recipe("int4"), 512, tail=7)
    with WeightFile(tmp_path / "weights") as weights:
        for _ in graph.emit(GraphBuilder(weights)):
            pass
    (hops,) = taken
    assert 0 < len(hops) <= MOST_HOPS, "\n".join(hops)
