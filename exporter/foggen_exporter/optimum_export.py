"""Bundles of architectures that this project does not know, through optimum's exporter.

Its graphs keep past and present in separate buffers and give logits to every position; the manifest
says so, and the runtime follows it.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Self

import numpy as np
import onnx
from transformers import AutoConfig, PretrainedConfig

from foggen_exporter.architectures.config import eos_token_ids
from foggen_exporter.bundle.contents import (
    GRAPH_FILE,
    MIN_ONNXRUNTIME,
    copy_configuration,
    file_infos,
    save_manifest,
)
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.graphs.optimum_graph import GraphShape, check_blocks, store_graph
from foggen_exporter.plan import positions
from foggen_exporter.text.conversation import Conversation, Speaker
from foggen_exporter.text.tokenizer_files import write_tokenizer
from foggen_exporter.weights.checkpoint import inner_class
from foggen_exporter.weights.checkpoint_files import read_configs, weight_files
from foggen_exporter.weights.tensor_files import DTYPES, TensorFiles
from foggen_exporter.weights.tensor_names import check_merged, merged
from foggen_runtime.bundle.manifest import (
    FORMAT_VERSION,
    GraphInfo,
    Manifest,
    ModelInfo,
    QuantizationInfo,
    RoutingInfo,
    WeightFormat,
)
from foggen_runtime.errors import CheckpointError, ConfigError
from foggen_runtime.model.engine import Engine, EngineOptions
from foggen_runtime.model.kv_cache import KvCache
from foggen_runtime.model.snapshot import SNAPSHOT_FILE

RECIPES = ("fp32", "int8-weight", "int4")

# Of buffers beside the weights.
_OTHER_DTYPES = ("F64", "I64", "I32", "I16", "I8", "U8", "BOOL")
_LIMIT = "max_position_embeddings"
_TASK = "text-generation-with-past"
_EMBEDDING = WeightFormat(bits=32)


@dataclass(frozen=True)
class OptimumCheckpoint:
    """A checkpoint of any architecture that transformers and optimum know."""

    directory: Path
    architecture: str
    config: PretrainedConfig
    eos_token_ids: tuple[int, ...]
    files: TensorFiles

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Read the configuration, and the headers of the weight files.

        Raises:
            CheckpointError: It is not a checkpoint, or lacks something that a bundle must know; or
                the weights are of a kind that transformers does not read.
        """
        document = read_configs(directory)
        try:
            config = AutoConfig.from_pretrained(directory, local_files_only=True)
        except Exception as error:  # of many kinds: transformers checks each field in its own way
            raise CheckpointError(f"{directory}: no usable configuration: {error}") from error
        ends = eos_token_ids(document) or eos_token_ids(config.to_dict())
        if not ends:
            raise CheckpointError(
                f"{directory}: eos_token_id: must say what ends a text, is not set"
            )
        names = config.architectures
        if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
            raise CheckpointError(f"config.json: architectures: must name one, is {names!r}")
        for name in ("vocab_size", "num_attention_heads"):
            _size(config, name)
        files = TensorFiles(weight_files(directory))
        files.check_dtypes((*DTYPES, *_OTHER_DTYPES))
        check_merged(directory, files.entries)
        _check_names(directory, files.entries)
        return cls(directory, inner_class(names[0]), config, ends, files)

    @property
    def limit(self) -> int | None:
        """The most tokens that the checkpoint was made for, if it says."""
        if getattr(self.config, _LIMIT, None) is None:
            return None
        return _size(self.config, _LIMIT)

    def model_info(self, origin: Origin, shape: GraphShape, context_length: int) -> ModelInfo:
        """Describe the model for the manifest.

        Args:
            origin: Where the checkpoint came from.
            shape: What its graph says.
            context_length: The most tokens of prompt and answer.
        """
        return ModelInfo(
            name=origin.bundle_name,
            revision=origin.revision,
            architecture=self.architecture,
            num_hidden_layers=shape.num_hidden_layers,
            num_attention_heads=self.config.num_attention_heads,
            num_key_value_heads=shape.num_key_value_heads,
            head_dim=shape.head_dim,
            vocab_size=shape.vocab_size,
            context_length=context_length,
            eos_token_ids=self.eos_token_ids,
        )


class OptimumExport:
    """One export; iterate over `steps`.

    Attributes:
        notes: Sentences to show to the user first.
    """

    def __init__(
        self,
        checkpoint: OptimumCheckpoint,
        origin: Origin,
        settings: ExportSettings,
        directory: Path,
    ) -> None:
        """Write the tokenizer, derive everything small, and refuse early what cannot be exported.

        Args:
            checkpoint: What to export.
            origin: Where it came from.
            settings: What to make of it.
            directory: An empty directory to write to.

        Raises:
            CheckpointError: The tokenizer does not fit the model, a block size does not divide a
                weight, or values are not finite.
            ConfigError: The template does not fit the tokenizer, the context length leaves no room
                for a question, the settings ask for something that optimum cannot do, or it is not
                installed.
        """
        check_settings(settings, origin.adapter)
        self._checkpoint = checkpoint
        self._origin = origin
        self._settings = settings
        self._directory = directory
        config, template = checkpoint.config, settings.template
        ends = checkpoint.eos_token_ids
        speaker = Speaker(checkpoint.directory, None, config, config.vocab_size, ends)
        conversation = Conversation.of(speaker, template)
        self.notes = conversation.notes
        self._prompt, self._template = conversation.prompt, conversation.template
        self._ends = conversation.eos_token_ids
        written = write_tokenizer(conversation.tokenizer, template, self._prompt, directory)
        self._positions = positions(
            settings.context_length, checkpoint.limit, written, self._prompt, self._template
        )
        if block_size := settings.recipe.layers.block_size:
            for name, columns in product_inputs(config).items():
                check_blocks(name, columns, block_size)
        checkpoint.files.check_finite()

    @property
    def step_count(self) -> int:
        """How many names `steps` yields."""
        return 3 + self._settings.prefix_snapshot

    def cost(self) -> str | None:
        """Nothing is calibrated."""
        return None

    def steps(self) -> Iterator[str]:
        """Write the bundle, yielding each step's name before it starts.

        Raises:
            CheckpointError: optimum cannot export the checkpoint, or writes a graph of a kind that
                the runtime cannot drive or weights of a kind that cannot be quantized.
        """
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
        model = self._checkpoint.model_info(self._origin, shape, self._positions)
        model = replace(model, eos_token_ids=self._ends)
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
                "weights_sha256": self._checkpoint.files.sha256(),
            },
        )
        save_manifest(manifest, self._directory)


def check_settings(settings: ExportSettings, adapter: Path | None) -> None:
    """Refuse what only our own graphs can do.

    Args:
        settings: What to make of the checkpoint.
        adapter: The directory of an adapter to merge into it.

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
    _main_export()


def product_inputs(config: PretrainedConfig) -> dict[str, int]:
    """Return the input sizes of a model's linear layers, by their names.

    Empty for a model that cannot be built without its weights: tracing finds them out then.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    except Exception:  # the model's own code, of any architecture
        return {}
    sizes = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            sizes[name] = module.in_features
        elif isinstance(module, Conv1D):
            sizes[name] = module.weight.shape[0]
    return sizes


def optimum_version() -> str:
    """Return which optimum writes the graphs."""
    return version("optimum-onnx")


def export_graph(checkpoint: Path, directory: Path) -> Path:
    """Let optimum trace a checkpoint in float32, and return where the graph is.

    Raises:
        ConfigError: optimum is not installed.
        CheckpointError: optimum refuses the checkpoint.
    """
    main_export = _main_export()
    try:
        # Tracing warns about every shape in the model's code.
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
    except Exception as error:  # the model's own code runs, of any architecture
        raise CheckpointError(f"{checkpoint}: optimum cannot export it: {error}") from error
    return directory / GRAPH_FILE


def _main_export() -> Callable[..., object]:
    try:
        from optimum.exporters.onnx import main_export
    except ImportError as error:
        raise ConfigError(
            "graph: optimum needs an environment of its own with pip install "
            f"'foggen[optimum]': {error}"
        ) from error
    found: Callable[..., object] = main_export
    return found


def _size(config: PretrainedConfig, name: str) -> int:
    size = getattr(config, name, None)
    if type(size) is not int or size < 1:
        raise CheckpointError(f"config.json: {name}: must be an integer of at least 1, is {size!r}")
    return size


def _check_names(directory: Path, names: Iterable[str]) -> None:
    """Refuse names that transformers does not know: it would invent such weights."""
    for name in names:
        if name != merged(name):
            raise CheckpointError(
                f"{directory}: tensors must be named as in the model, {name} should be "
                f"{merged(name)}; save the model again without what training wrapped around it"
            )
