"""A head of many rows is several products, over the same bytes."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from foggen_exporter.graphs import matmul
from foggen_exporter.recipes.recipe import find_recipe
from foggen_exporter.weights.checkpoint import Checkpoint
from tests.support.checkpoints import TinyQwen3, add_other_lm_head, write_checkpoint
from tests.support.random_bundle import export_graph, random_ids


@pytest.mark.parametrize("quant", ["int8", "int4"])
@pytest.mark.parametrize("untied", [False, True])
def test_parts_give_the_whole_heads_logits_from_the_same_bytes(
    quant: str, untied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", TinyQwen3(vocab_size=1500))
    if untied:
        add_other_lm_head(checkpoint)
    source = Checkpoint.open(checkpoint)
    whole = export_graph(source, tmp_path / "whole", find_recipe(quant))
    monkeypatch.setattr(matmul, "_PART_ROWS", 512)
    parts = export_graph(source, tmp_path / "parts", find_recipe(quant))
    ids = random_ids(40, source.config.vocab_size)
    assert np.array_equal(parts.engine().forward(ids), whole.engine().forward(ids))
    one, other = (graph.path.with_name("model.onnx.data") for graph in (whole, parts))
    assert one.read_bytes() == other.read_bytes()
    model = onnx.load(parts.path, load_external_data=False)
    names = {tensor.name for tensor in model.graph.initializer}
    assert {"logits.0.weight", "logits.2.weight"} <= names
    assert "logits.weight" not in names
