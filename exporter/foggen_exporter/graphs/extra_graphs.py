"""Other graphs over the same weights: the loop inside the model, and onnxruntime-genai's."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from foggen_exporter.graphs.genai import (
    GENAI_CONFIG_FILE,
    GENAI_GRAPH_FILE,
    genai_config,
    one_row_graph,
)
from foggen_exporter.graphs.loop import LoopGraph
from foggen_runtime.bundle.manifest import ModelInfo, PromptInfo, TemplateInfo

__all__ = ["GENAI_GRAPH_FILE", "LOOP_FILE", "ExtraGraphs"]

LOOP_FILE = "loop.onnx"


@dataclass(frozen=True)
class ExtraGraphs:
    """Writes graphs beside a bundle's own.

    Attributes:
        graph: The bundle's model.onnx.
        model: Its shape.
    """

    graph: Path
    model: ModelInfo

    def write_loop(self, template: TemplateInfo, prompt: PromptInfo, snapshot: str | None) -> None:
        """Write the loop inside the model.

        Args:
            template: What the model writes.
            prompt: Whose prefix the snapshot holds.
            snapshot: The name of the prefix snapshot's file, if there is one.

        Raises:
            ConfigError: The template branches off its draft.
        """
        cached = self.graph.with_name(snapshot) if snapshot else None
        loop = LoopGraph(self._read(), self.model, template, prompt, cached)
        onnx.save_model(loop.build(), self.graph.with_name(LOOP_FILE))

    def write_genai(self, hidden_size: int) -> None:
        """Write the graph of one row of logits, and its description."""
        onnx.save_model(one_row_graph(self._read()), self.graph.with_name(GENAI_GRAPH_FILE))
        config = genai_config(self.model, hidden_size)
        self.graph.with_name(GENAI_CONFIG_FILE).write_text(config, encoding="utf-8")

    def _read(self) -> onnx.ModelProto:
        return onnx.load_model(self.graph, load_external_data=False)
