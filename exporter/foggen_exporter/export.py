"""From a checkpoint to a bundle: graph, weights, tokenizer, prefix snapshot, manifest."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from transformers import AutoConfig

from foggen_exporter.architectures.channels import Channels, Exponents
from foggen_exporter.architectures.decoder import (
    DecoderGraph,
    TensorSource,
    graph_inputs,
    graph_outputs,
)
from foggen_exporter.bundle.contents import (
    GRAPH_FILE,
    MIN_ONNXRUNTIME,
    copy_configuration,
    file_infos,
    save_manifest,
)
from foggen_exporter.bundle.prefix import layer_caches
from foggen_exporter.calibration.activations import CalibrationPrompts, layer_inputs
from foggen_exporter.calibration.budget import WeightSizes, choose_finer
from foggen_exporter.calibration.calibration import calibration_prompts
from foggen_exporter.calibration.cost import cost_sentence, layer_tokens, token_seconds
from foggen_exporter.calibration.damage import DamageSearch, damage_steps
from foggen_exporter.calibration.probes import probe_set, probing_questions
from foggen_exporter.calibration.smoothing import layer_scales
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.graphs.builder import GraphBuilder, WeightFile
from foggen_exporter.graphs.genai import GENAI_GRAPH_FILE, write_genai
from foggen_exporter.graphs.loop import LOOP_FILE, write_loop
from foggen_exporter.graphs.loop_parts import LoopTables
from foggen_exporter.plan import check_matrices, positions
from foggen_exporter.recipes.block_quantization import Float32
from foggen_exporter.text.conversation import Conversation, Speaker
from foggen_exporter.text.prompt import head_info
from foggen_exporter.text.tokenizer_files import write_tokenizer
from foggen_exporter.weights.folding import FoldedCheckpoint
from foggen_runtime.bundle.manifest import (
    FORMAT_VERSION,
    GraphInfo,
    HeadInfo,
    Manifest,
    ModelInfo,
    QuantizationInfo,
    RoutingInfo,
)
from foggen_runtime.decide.trie import TemplateTrie
from foggen_runtime.model.snapshot import SNAPSHOT_FILE


class Export:
    """One export; iterate over `steps`.

    Attributes:
        notes: Sentences to show to the user beforehand.
    """

    def __init__(
        self, source: TensorSource, origin: Origin, settings: ExportSettings, directory: Path
    ) -> None:
        """Write the tokenizer, derive everything small, and refuse whatever cannot be exported.

        Args:
            source: The checkpoint.
            origin: Where it came from.
            settings: What to make of it.
            directory: An empty directory to write to.

        Raises:
            CheckpointError: The tokenizer does not go with the model, a block size does not divide
                a weight, or values are not finite.
            ConfigError: The template does not go with the tokenizer, the context length holds no
                question, the budget is too small, or the loop cannot read the template.
        """
        self._source = source
        self._origin = origin
        self._settings = settings
        self._recipe = settings.recipe
        self._directory = directory
        config = source.config
        speaker = Speaker(
            source.directory,
            origin.adapter,
            AutoConfig.for_model(config.model_type),
            config.vocab_size,
            config.eos_token_ids,
        )
        conversation = Conversation.of(speaker, settings.template)
        self.notes = conversation.notes
        tokenizer, self._prompt = conversation.tokenizer, conversation.prompt
        self._template, self._ends = conversation.template, conversation.eos_token_ids
        trie = TemplateTrie.of(self._template)
        self._tail = trie.rows_needed(self._template.answer_prefix_ids)
        self._head: HeadInfo | None = None
        if settings.head == "choices":
            self._head = head_info(tokenizer, settings.template, self._ends)
            # Nothing says what else the model would have written.
            self._template = replace(self._template, min_template_probability=0.0)
        self._tokenizer = write_tokenizer(tokenizer, settings.template, self._prompt, directory)
        limit = source.config.max_position_embeddings
        self._positions = positions(
            settings.context_length, limit, self._tokenizer, self._prompt, self._template
        )
        self._check()

    def _check(self) -> None:
        check_matrices(self._source.config, self._recipe)
        if self._recipe.finer:
            self._weight_sizes().room(self._settings.budget)
        if self._settings.loop:
            LoopTables.of(self._template)
        if self._recipe.calibrated:
            # Otherwise each weight is read, and checked, before anything else takes long.
            self._source.check_finite()

    @property
    def step_count(self) -> int:
        """How many names `steps` yields."""
        layers = self._source.config.num_hidden_layers
        passes = 1 + self._recipe.smoothing + self._settings.prefix_snapshot
        mixing = damage_steps(self._source.config) if self._recipe.finer else 0
        return 3 + layers * passes + mixing + self._settings.loop + self._settings.genai

    @property
    def cost(self) -> str | None:
        """What calibrating will take, in a sentence; None for recipes that go by no activations."""
        if not self._recipe.calibrated:
            return None
        config, template = self._source.config, self._template
        reply = (*template.level_ids[0], *template.separator_ids, *template.answer_prefix_ids)
        questions = self._settings.calibration.questions
        lengths, probes = (
            [len(self._tokenizer.encode(text)) + len(reply) for text in some]
            for some in (questions, probing_questions(questions))
        )
        tokens = layer_tokens(self._recipe, config, lengths, probes)
        seconds = token_seconds(self._source, self._prompt.prefix_ids)
        return cost_sentence(len(questions), tokens, seconds)

    def steps(self) -> Iterator[str]:
        """Write the bundle, yielding the name of each step before it is taken.

        Raises:
            CheckpointError: A tensor cannot be read any more, or holds values that are not finite.
        """
        copy_configuration(self._source.directory, self._directory)
        recipe = self._recipe
        if recipe.smoothing:
            yield from self._smooth(self._calibration_prompts())
        if recipe.finer:
            yield from self._mix()
        calibration = self._calibration_prompts() if recipe.error_feedback else None
        yield from self._write_graph(calibration)
        if self._settings.prefix_snapshot:
            yield from self._write_snapshot()
        yield from self._write_extra_graphs()
        yield "manifest"
        save_manifest(self._manifest(), self._directory)

    def _calibration_prompts(self) -> CalibrationPrompts:
        questions = self._settings.calibration.questions
        prompt, template = self._prompt, self._template
        return calibration_prompts(questions, self._tokenizer, prompt, template, self._tail)

    def _smooth(self, prompts: CalibrationPrompts) -> Iterator[str]:
        """Go on with the folded weights: the snapshot's values must be scaled as theirs are."""
        scales: dict[Channels, Exponents] = {}
        layers = layer_inputs(self._source, prompts)
        for index in range(self._source.config.num_hidden_layers):
            yield f"activations {index}"
            scales |= layer_scales(self._source, index, next(layers))
        self._source = FoldedCheckpoint.of(self._source, scales)

    @property
    def _head_rows(self) -> int:
        """How many rows of the output head are stored beside the embedding's."""
        if self._head:
            return len(self._head.token_ids)
        return 0 if self._source.tied else self._source.config.vocab_size

    def _weight_sizes(self) -> WeightSizes:
        return WeightSizes.of(self._source, self._recipe, self._positions, self._head_rows)

    def _mix(self) -> Iterator[str]:
        """Go on with the bits that the budget allows where they matter most."""
        recipe, questions = self._recipe, self._settings.calibration.questions
        sizes = self._weight_sizes()
        room = sizes.room(self._settings.budget)
        probes = probe_set(questions, self._tokenizer, self._prompt, self._template)
        inputs: Iterator[dict[str, Float32]] = iter(())
        if recipe.error_feedback:
            inputs = layer_inputs(self._source, self._calibration_prompts())
        damage = yield from DamageSearch(self._source, recipe, probes).steps(inputs)
        self._recipe = recipe.with_finer(choose_finer(damage, sizes, room))

    def _write_graph(self, prompts: CalibrationPrompts | None) -> Iterator[str]:
        config = self._source.config
        head_ids = self._head.token_ids if self._head else None
        graph = DecoderGraph(
            self._source, self._recipe, self._positions, self._tail, head_ids=head_ids
        )
        layers = layer_inputs(self._source, prompts) if prompts else ()
        with WeightFile(self._directory / f"{GRAPH_FILE}.data") as weights:
            g = GraphBuilder(weights)
            yield from graph.emit(g, layers)
        outputs = graph_outputs(config, head_ids)
        model = g.model(graph_inputs(config), outputs, version("foggen"))
        onnx.save_model(model, self._directory / GRAPH_FILE)

    def _write_snapshot(self) -> Iterator[str]:
        layers = []
        caches = layer_caches(self._source, self._prompt.prefix_ids)
        for index in range(self._source.config.num_hidden_layers):
            yield f"prefix snapshot {index}"
            cache = next(caches)
            layers.append(np.stack([cache.key, cache.value]))
        np.save(self._directory / SNAPSHOT_FILE, np.stack(layers), allow_pickle=False)

    def _write_extra_graphs(self) -> Iterator[str]:
        """Write the other graphs over the same weights."""
        graph, model = self._directory / GRAPH_FILE, self._model_info()
        if self._settings.loop:
            yield "loop"
            snapshot = self._directory / SNAPSHOT_FILE if self._settings.prefix_snapshot else None
            write_loop(graph, model, self._template, self._prompt, snapshot)
        if self._settings.genai:
            yield "genai"
            config = self._source.config
            write_genai(graph, model, config.genai_type, config.hidden_size)

    def _manifest(self) -> Manifest:
        return Manifest(
            format_version=FORMAT_VERSION,
            model=self._model_info(),
            graph=GraphInfo(
                GRAPH_FILE,
                self._tail,
                MIN_ONNXRUNTIME,
                loop_file=LOOP_FILE if self._settings.loop else None,
                genai_file=GENAI_GRAPH_FILE if self._settings.genai else None,
                head=self._head,
            ),
            quantization=self._quantization_info(),
            prompt=self._prompt,
            template=self._template,
            prefix_snapshot=None,
            routing=RoutingInfo(self._settings.tau),
            files=file_infos(self._directory),
            provenance={
                "tool": f"foggen-export {version('foggen')}",
                "checkpoint": self._origin.name,
                "adapter": self._origin.adapter_name,
                "weights_sha256": self._source.weights_sha256(),
            },
        )

    def _quantization_info(self) -> QuantizationInfo:
        recipe = self._recipe
        folding = "smoothquant" if recipe.smoothing else None
        calibration = self._settings.calibration.sha256 if recipe.calibrated else None
        return QuantizationInfo(recipe.name, recipe.groups, folding, calibration)

    def _model_info(self) -> ModelInfo:
        config = self._source.config
        return ModelInfo(
            name=self._origin.bundle_name,
            revision=self._origin.revision,
            architecture=self._source.architecture,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            vocab_size=config.vocab_size,
            context_length=self._positions,
            eos_token_ids=self._ends,
        )
