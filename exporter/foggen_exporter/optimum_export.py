"""Bundles of architectures that this project has no file for, through optimum's exporter.

Its graphs write past and present to buffers of their own and give logits to every position; the
manifest says so, and the runtime goes by it.
"""

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

import numpy as np
import onnx
from transformers import AutoConfig, PretrainedConfig

from foggen_exporter.bundle_files import (
    GRAPH_FILE,
    MIN_ONNXRUNTIME,
    copy_configuration,
    file_infos,
    save_manifest,
)
from foggen_exporter.checkpoint_files import read_json_object, weight_files
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.optimum_graph import GraphShape, store_graph
from foggen_exporter.prompt import prompt_info, template_info
from foggen_exporter.tensor_files import TensorFiles
from foggen_exporter.tokenizer_files import load_tokenizer, write_tokenizer
from foggen_runtime.engine import Engine, EngineOptions
from foggen_runtime.errors import CheckpointError, ConfigError
from foggen_runtime.kv_cache import KvCache
from foggen_runtime.manifest import (
    FORMAT_VERSION,
    GraphInfo,
    Manifest,
    ModelInfo,
    QuantizationInfo,
    RoutingInfo,
    WeightFormat,
)
from foggen_runtime.snapshot import SNAPSHOT_FILE

RECIPES = ("fp32", "int8-weight", "int4")

_TASK = "text-generation-with-past"
_EMBEDDING = WeightFormat(bits=32)


@dataclass(frozen=True)
class OptimumCheckpoint:
    """A checkpoint of any architecture that transformers and optimum know."""

    directory: Path
    architecture: str
    config: PretrainedConfig
    eos_token_ids: tuple[int, ...]

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Read the configuration.

        Raises:
            CheckpointError: It is none, or says nothing of what a bundle must know.
        """
        try:
            config = AutoConfig.from_pretrained(directory, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{directory}: no usable configuration: {error}") from error
        ends = config.eos_token_id
        generation = directory / "generation_config.json"
        if generation.exists():
            ends = read_json_object(generation).get("eos_token_id", ends)
        if ends is None:
            raise CheckpointError(f"{directory}: eos_token_id: must say what ends a text, is none")
        names = config.architectures or []
        if len(names) != 1:
            raise CheckpointError(f"config.json: architectures: must name one, is {names!r}")
        eos_token_ids = (ends,) if isinstance(ends, int) else tuple(ends)
        return cls(directory, names[0], config, eos_token_ids)

    def model_info(self, origin: Origin, shape: GraphShape, context_length: int) -> ModelInfo:
        """Describe the model for the manifest.

        Args:
            origin: Where the checkpoint came from.
            shape: What its graph tells.
            context_length: The most tokens wanted; the checkpoint's own limit holds too.
        """
        limit = getattr(self.config, "max_position_embeddings", None) or context_length
        return ModelInfo(
            name=origin.name.rpartition("/")[2],
            revision=origin.revision,
            architecture=self.architecture,
            num_hidden_layers=shape.num_hidden_layers,
            num_attention_heads=self.config.num_attention_heads,
            num_key_value_heads=shape.num_key_value_heads,
            head_dim=shape.head_dim,
            vocab_size=shape.vocab_size,
            context_length=min(context_length, limit),
            eos_token_ids=self.eos_token_ids,
        )


class OptimumExport:
    """One export; iterate over `steps`."""

    def __init__(
        self,
        checkpoint: OptimumCheckpoint,
        origin: Origin,
        settings: ExportSettings,
        directory: Path,
    ) -> None:
        """Read the tokenizer and derive everything small.

        Args:
            checkpoint: What to export.
            origin: Where it came from.
            settings: What to make of it.
            directory: An empty directory to write to.

        Raises:
            CheckpointError: The tokenizer does not go with the model.
            ConfigError: The template does not go with the tokenizer, or the settings ask for what
                this way of exporting cannot do.
        """
        check_settings(settings, origin.adapter)
        self._checkpoint = checkpoint
        self._origin = origin
        self._settings = settings
        self._directory = directory
        self._tokenizer = load_tokenizer(checkpoint.directory, checkpoint.config.vocab_size)
        self._prompt = prompt_info(self._tokenizer, settings.template)
        self._template = template_info(self._tokenizer, settings.template)

    @property
    def step_count(self) -> int:
        """How many names `steps` yields."""
        return 3 + self._settings.prefix_snapshot

    @property
    def cost(self) -> None:
        """Nothing is calibrated."""

    def steps(self) -> Iterator[str]:
        """Write the bundle, yielding the name of each step before it is taken.

        Raises:
            CheckpointError: optimum cannot export the checkpoint, or writes a graph of a kind that
                the runtime cannot drive; or a block size does not divide a weight.
            ConfigError: optimum is not installed.
        """
        write_tokenizer(self._tokenizer, self._settings.template, self._prompt, self._directory)
        copy_configuration(self._checkpoint.directory, self._directory)
        with tempfile.TemporaryDirectory(
            dir=self._directory.parent, prefix=f"{self._directory.name}.optimum-"
        ) as made:
            yield "optimum"
            graph = export_graph(self._checkpoint.directory, Path(made))
            model, info = self._describe(graph)
            if self._settings.prefix_snapshot:
                yield "prefix snapshot"
                self._write_snapshot(Engine(graph, info, EngineOptions(), KvCache(model)))
            yield "weights"
            store_graph(graph, self._directory / GRAPH_FILE, self._settings.recipe.layers)
        yield "manifest"
        self._write_manifest(model, info)

    def _describe(self, graph: Path) -> tuple[ModelInfo, GraphInfo]:
        shape = GraphShape.of(onnx.load_model(graph, load_external_data=False))
        context_length = self._settings.context_length
        model = self._checkpoint.model_info(self._origin, shape, context_length)
        return model, GraphInfo(
            GRAPH_FILE,
            model.context_length,
            MIN_ONNXRUNTIME,
            shared_cache=False,
            position_ids=shape.position_ids,
        )

    def _write_snapshot(self, engine: Engine) -> None:
        """Compute the prompt prefix's KV cache with the graph itself, before it is quantized."""
        engine.forward(self._prompt.prefix_ids)
        np.save(self._directory / SNAPSHOT_FILE, engine.cache.snapshot(), allow_pickle=False)

    def _write_manifest(self, model: ModelInfo, graph: GraphInfo) -> None:
        recipe = self._settings.recipe
        weights = TensorFiles(weight_files(self._checkpoint.directory))
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            model=model,
            graph=graph,
            quantization=QuantizationInfo(
                recipe.name, {"layers": recipe.layers, "embedding": _EMBEDDING}
            ),
            prompt=self._prompt,
            template=self._template,
            prefix_snapshot=None,
            routing=RoutingInfo(self._settings.tau),
            files=file_infos(self._directory),
            provenance={
                "tool": f"foggen-export {version('foggen')}, optimum-onnx {optimum_version()}",
                "checkpoint": self._origin.name,
                "adapter": None,
                "weights_sha256": weights.sha256(),
            },
        )
        save_manifest(manifest, self._directory)


def check_settings(settings: ExportSettings, adapter: str | None) -> None:
    """Refuse what only our own graphs can do.

    Args:
        settings: What to make of the checkpoint.
        adapter: The name of an adapter to merge into it.

    Raises:
        ConfigError: Something is asked for that needs them.
    """
    if settings.recipe.name not in RECIPES:
        raise ConfigError(
            f"quant: must be one of {', '.join(RECIPES)} with graph optimum, "
            f"is {settings.recipe.name}"
        )
    for name, wanted in (("loop", settings.loop), ("genai", settings.genai)):
        if wanted:
            raise ConfigError(f"{name}: must be left out with graph optimum, is given")
    if settings.head != "full":
        raise ConfigError(f"head: must be full with graph optimum, is {settings.head}")
    if adapter:
        raise ConfigError(f"adapter: must be merged beforehand with graph optimum, is {adapter}")


def optimum_version() -> str:
    """Return which optimum writes the graphs."""
    return version("optimum-onnx")


def export_graph(checkpoint: Path, directory: Path) -> Path:
    """Let optimum trace a checkpoint in float32, and return where the graph is.

    Raises:
        ConfigError: optimum is not installed.
        CheckpointError: optimum refuses the checkpoint.
    """
    try:
        from optimum.exporters.onnx import main_export
    except ImportError as error:
        raise ConfigError(
            "graph: optimum needs an environment of its own with pip install "
            f"'foggen[optimum]': {error}"
        ) from error
    try:
        # Tracing warns of every shape in the model's code.
        with warnings.catch_warnings(action="ignore"):
            main_export(
                str(checkpoint),
                output=directory,
                task=_TASK,
                dtype="fp32",
                local_files_only=True,
                do_validation=False,
                library_name="transformers",
            )
    except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{checkpoint}: optimum cannot export it: {error}") from error
    return directory / GRAPH_FILE
