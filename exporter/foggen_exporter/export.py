"""From a checkpoint to a bundle: graph, weights, tokenizer, prefix snapshot, manifest."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from foggen_exporter.activations import CalibrationPrompts, layer_inputs
from foggen_exporter.architectures.qwen3 import Qwen3Graph, graph_inputs, graph_outputs
from foggen_exporter.bundle_card import bundle_card
from foggen_exporter.calibration import CalibrationSet, calibration_prompts
from foggen_exporter.checkpoint import TensorSource
from foggen_exporter.folding import Channels, Exponents, FoldedCheckpoint
from foggen_exporter.graph import GraphBuilder, WeightFile
from foggen_exporter.prefix import layer_caches
from foggen_exporter.prompt import check_prompt, prompt_info, save_tokenizer, template_info
from foggen_exporter.recipes import Recipe
from foggen_exporter.smoothing import layer_scales
from foggen_exporter.template import Template
from foggen_runtime.errors import CheckpointError, ConfigError
from foggen_runtime.manifest import (
    FORMAT_VERSION,
    TOKENIZER_FILE,
    GraphInfo,
    Manifest,
    ModelInfo,
    PrefixSnapshotInfo,
    QuantizationInfo,
    RoutingInfo,
    file_info,
)
from foggen_runtime.snapshot import SNAPSHOT_FILE, expected_key
from foggen_runtime.template import TemplateTrie
from foggen_runtime.tokenizer import QuestionTokenizer

GRAPH_FILE = "model.onnx"
CARD_FILE = "README.md"
MIN_ONNXRUNTIME = "1.27"


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint came from: hub id or directory name, commit, adapter merged in."""

    name: str
    revision: str | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class ExportSettings:
    """What to make of a checkpoint.

    Attributes:
        recipe: How weights are stored.
        template: What the model is told and how it replies.
        tau: The manifest's default threshold.
        context_length: The most tokens of prompt and answer; at most the checkpoint's own.
        prefix_snapshot: Whether to ship the prompt prefix's KV cache.
        calibration: What recipes that go by activations quantize by.
    """

    recipe: Recipe
    template: Template
    tau: float = 0.5
    context_length: int = 4096
    prefix_snapshot: bool = True
    calibration: CalibrationSet = field(default_factory=CalibrationSet.built_in)

    def __post_init__(self) -> None:
        if not 0 <= self.tau <= 1:
            raise ConfigError(f"tau: must be within [0, 1], is {self.tau}")
        if self.context_length < 1:
            raise ConfigError(f"context_length: must be at least 1, is {self.context_length}")


class Export:
    """One export; iterate over `steps`, then take the `manifest`."""

    def __init__(
        self, source: TensorSource, origin: Origin, settings: ExportSettings, directory: Path
    ) -> None:
        """Read the tokenizer and derive everything small.

        Args:
            source: The checkpoint.
            origin: Where it came from.
            settings: What to make of it.
            directory: An empty directory to write to.

        Raises:
            CheckpointError: The tokenizer does not go with the model.
            ConfigError: The template does not go with the tokenizer.
        """
        self._source = source
        self._origin = origin
        self._settings = settings
        self._directory = directory
        self._tokenizer = _load_tokenizer(source)
        self._prompt = prompt_info(self._tokenizer, settings.template)
        self._template = template_info(self._tokenizer, settings.template)
        trie = TemplateTrie.of(self._template)
        self._tail = trie.rows_needed(self._template.answer_prefix_ids)

    @property
    def step_count(self) -> int:
        """How many names `steps` yields."""
        layers = self._source.config.num_hidden_layers
        passes = 1 + self._settings.recipe.smoothing + self._settings.prefix_snapshot
        return 3 + layers * passes

    def steps(self) -> Iterator[str]:
        """Write the bundle, yielding the name of each step before it is taken.

        Raises:
            CheckpointError: A block size does not divide a weight, or a tensor is unreadable.
        """
        tokenizer = self._save_tokenizer()
        recipe = self._settings.recipe
        if recipe.smoothing:
            yield from self._smooth(self._calibration_prompts(tokenizer))
        calibration = self._calibration_prompts(tokenizer) if recipe.error_feedback else None
        yield from self._write_graph(calibration)
        if self._settings.prefix_snapshot:
            yield from self._write_snapshot()
        yield "manifest"
        self._write_manifest()

    @property
    def _positions(self) -> int:
        limit = self._source.config.max_position_embeddings
        return min(self._settings.context_length, limit)

    def _calibration_prompts(self, tokenizer: QuestionTokenizer) -> CalibrationPrompts:
        questions = self._settings.calibration.questions
        prompt, template = self._prompt, self._template
        return calibration_prompts(questions, tokenizer, prompt, template, self._tail)

    def _smooth(self, prompts: CalibrationPrompts) -> Iterator[str]:
        """Go on with the folded weights: the snapshot's values must be scaled as theirs are."""
        scales: dict[Channels, Exponents] = {}
        layers = layer_inputs(self._source, prompts)
        for index in range(self._source.config.num_hidden_layers):
            yield f"activations {index}"
            scales |= layer_scales(self._source, index, next(layers))
        self._source = FoldedCheckpoint.of(self._source, scales)

    def _write_graph(self, prompts: CalibrationPrompts | None) -> Iterator[str]:
        config = self._source.config
        graph = Qwen3Graph(self._source, self._settings.recipe, self._positions, self._tail)
        layers = layer_inputs(self._source, prompts) if prompts else ()
        with WeightFile(self._directory / f"{GRAPH_FILE}.data") as weights:
            g = GraphBuilder(weights)
            yield from graph.emit(g, layers)
        model = g.model(graph_inputs(config), graph_outputs(config), version("foggen"))
        onnx.save_model(model, self._directory / GRAPH_FILE)

    def _save_tokenizer(self) -> QuestionTokenizer:
        """Write the tokenizer, and check that the runtime's reading of it gives the same ids."""
        save_tokenizer(self._tokenizer, self._directory)
        tokenizer = QuestionTokenizer.from_file(self._directory / TOKENIZER_FILE)
        check_prompt(
            self._tokenizer,
            self._settings.template,
            lambda question: tokenizer.prompt_ids(self._prompt, question),
        )
        return tokenizer

    def _write_snapshot(self) -> Iterator[str]:
        layers = []
        caches = layer_caches(self._source, self._prompt.prefix_ids)
        for index in range(self._source.config.num_hidden_layers):
            yield f"prefix snapshot {index}"
            cache = next(caches)
            layers.append(np.stack([cache.key, cache.value]))
        np.save(self._directory / SNAPSHOT_FILE, np.stack(layers), allow_pickle=False)

    def _write_manifest(self) -> None:
        """Write the card and, when every other file is there, the manifest."""
        manifest = self._manifest()
        card = self._directory / CARD_FILE
        card.write_text(bundle_card(manifest), encoding="utf-8")
        files = {**manifest.files, CARD_FILE: file_info(card)}
        replace(manifest, files=files).save(self._directory)

    def _manifest(self) -> Manifest:
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            model=self._model_info(),
            graph=GraphInfo(GRAPH_FILE, self._tail, MIN_ONNXRUNTIME),
            quantization=self._quantization_info(),
            prompt=self._prompt,
            template=self._template,
            prefix_snapshot=None,
            routing=RoutingInfo(self._settings.tau),
            files={path.name: file_info(path) for path in sorted(self._directory.iterdir())},
            provenance={
                "tool": f"foggen-export {version('foggen')}",
                "checkpoint": self._origin.name,
                "adapter": self._origin.adapter,
                "weights_sha256": self._source.weights_sha256(),
            },
        )
        if not self._settings.prefix_snapshot:
            return manifest
        snapshot = PrefixSnapshotInfo(SNAPSHOT_FILE, "float32", expected_key(manifest))
        return replace(manifest, prefix_snapshot=snapshot)

    def _quantization_info(self) -> QuantizationInfo:
        recipe = self._settings.recipe
        folding = "smoothquant" if recipe.smoothing else None
        calibration = self._settings.calibration.sha256 if recipe.calibrated else None
        return QuantizationInfo(recipe.name, recipe.groups, folding, calibration)

    def _model_info(self) -> ModelInfo:
        config = self._source.config
        return ModelInfo(
            name=self._origin.name.rpartition("/")[2],
            revision=self._origin.revision,
            architecture=self._source.architecture,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            vocab_size=config.vocab_size,
            context_length=self._positions,
            eos_token_ids=config.eos_token_ids,
        )


def _load_tokenizer(source: TensorSource) -> PreTrainedTokenizerBase:
    """Read the checkpoint's tokenizer, and check that the embedding has a row for every id."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.directory, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{source.directory}: no usable tokenizer: {error}") from error
    largest = max(tokenizer.get_vocab().values())
    if largest >= source.config.vocab_size:
        raise CheckpointError(
            f"{source.directory}: the tokenizer's ids must be below vocab_size "
            f"{source.config.vocab_size}, the largest is {largest}"
        )
    return tokenizer
