"""What onnxruntime-genai needs to run a bundle: a graph of its own, and a description of both.

It reads one row of logits and insists on a static shape, so its graph is model.onnx with a tail of
one row, over the same weights. The names of the fields and the file are those that its own model
builder writes (`onnxruntime_genai.models.builder`).
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from foggen_exporter.graphs.builder import TAIL_START
from foggen_runtime.bundle.manifest import ModelInfo

GENAI_GRAPH_FILE = "model_genai.onnx"
GENAI_CONFIG_FILE = "genai_config.json"


def write_genai(graph: Path, model: ModelInfo, genai_type: str, hidden_size: int) -> None:
    """Write the graph with one row of logits and its description next to a bundle's own graph.

    Args:
        graph: The bundle's model.onnx.
        model: Its shape.
        genai_type: What onnxruntime-genai calls the family.
        hidden_size: How wide its residual stream is.
    """
    whole = onnx.load_model(graph, load_external_data=False)
    onnx.save_model(one_row_graph(whole), graph.with_name(GENAI_GRAPH_FILE))
    config = genai_config(model, genai_type, hidden_size)
    graph.with_name(GENAI_CONFIG_FILE).write_text(config, encoding="utf-8")


def one_row_graph(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a bundle's graph with logits (1, 1, vocab_size).

    Raises:
        ValueError: The graph has no tail to shorten.
    """
    single = onnx.ModelProto()
    single.CopyFrom(graph)
    starts = [tensor for tensor in single.graph.initializer if tensor.name == TAIL_START]
    if len(starts) != 1:
        raise ValueError(f"graph: must have one initializer {TAIL_START}, has {len(starts)}")
    starts[0].CopyFrom(onnx.numpy_helper.from_array(np.array([-1]), TAIL_START))
    rows = single.graph.output[0].type.tensor_type.shape.dim[1]
    rows.Clear()
    rows.dim_value = 1
    return single


def genai_config(model: ModelInfo, genai_type: str, hidden_size: int) -> str:
    """Return the text of `genai_config.json`: greedy search, one cache buffer."""
    names: Mapping[str, Mapping[str, str]] = {
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    first_end = model.eos_token_ids[0]
    document = {
        "model": {
            "type": genai_type,
            "bos_token_id": first_end,
            "eos_token_id": list(model.eos_token_ids),
            "pad_token_id": first_end,
            "context_length": model.context_length,
            "vocab_size": model.vocab_size,
            "decoder": {
                "filename": GENAI_GRAPH_FILE,
                "session_options": {"provider_options": []},
                "hidden_size": hidden_size,
                "head_size": model.head_dim,
                "num_attention_heads": model.num_attention_heads,
                "num_hidden_layers": model.num_hidden_layers,
                "num_key_value_heads": model.num_key_value_heads,
                **names,
            },
        },
        "search": {
            "do_sample": False,
            "max_length": model.context_length,
            "past_present_share_buffer": True,
        },
    }
    return json.dumps(document, indent=2) + "\n"
