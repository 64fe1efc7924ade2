"""From a checkpoint to a bundle: graph, weights, tokenizer, prefix snapshot, manifest.

A plan says what the bundle will be made of. Calibrated recipes turn it into another plan, with
folded weights or chosen bits; in the end the plan is written.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Self

import numpy as np
import onnx

from foggen_exporter.architectures.channels import Channels, Exponents
from foggen_exporter.architectures.decoder import (
    DecoderGraph,
    TensorSource,
    graph_inputs,
    graph_outputs,
)
from foggen_exporter.architectures.layers import layer_caches
from foggen_exporter.bundle.contents import (
    GRAPH_FILE,
    MIN_ONNXRUNTIME,
    copy_configuration,
    file_infos,
    save_manifest,
)
from foggen_exporter.calibration.activations import CalibrationPrompts, layer_inputs
from foggen_exporter.calibration.budget import choose_finer
from foggen_exporter.calibration.calibration import calibration_prompts
from foggen_exporter.calibration.cost import cost_sentence, layer_tokens, token_seconds
from foggen_exporter.calibration.damage import DamageSearch, damage_steps
from foggen_exporter.calibration.probes import probe_set, probing_questions
from foggen_exporter.calibration.smoothing import layer_scales
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.graphs.builder import GraphBuilder, WeightFile
from foggen_exporter.graphs.genai import GENAI_GRAPH_FILE, write_genai
from foggen_exporter.graphs.loop import LOOP_FILE, write_loop
from foggen_exporter.plan import Plan
from foggen_exporter.weights.folding import FoldedCheckpoint
from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.manifest import (
    FORMAT_VERSION,
    GraphInfo,
    Manifest,
    ModelInfo,
    QuantizationInfo,
    RoutingInfo,
)
from foggen_runtime.model.snapshot import SNAPSHOT_FILE

Planning = Generator[str, None, Plan]  # yields each step's name before it starts


@dataclass(frozen=True)
class Export:
    """One export; iterate over `steps`."""

    plan: Plan

    @classmethod
    def of(
        cls, source: TensorSource, origin: Origin, settings: ExportSettings, directory: Path
    ) -> Self:
        """Plan it; arguments and errors are those of `Plan.of`."""
        return cls(Plan.of(source, origin, settings, directory))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences to show to the user first."""
        return self.plan.notes

    @property
    def step_count(self) -> int:
        """How many names `steps` yields."""
        recipe, settings, config = self.plan.recipe, self.plan.settings, self.plan.source.config
        passes = 1 + recipe.smoothing + settings.prefix_snapshot
        mixing = damage_steps(config) if recipe.finer else 0
        return 3 + config.num_hidden_layers * passes + mixing + settings.loop + settings.genai

    def cost(self) -> str | None:
        """Time a layer, and say how long calibrating will take; None if nothing is calibrated."""
        return calibration_cost(self.plan) if self.plan.recipe.calibrated else None

    def steps(self) -> Iterator[str]:
        """Write the bundle, yielding each step's name before it starts.

        Raises:
            CheckpointError: A tensor can no longer be read, or holds values that are not finite.
        """
        plan = self.plan
        if plan.recipe.smoothing:
            plan = yield from fold(plan)
        if plan.recipe.finer:
            plan = yield from mix(plan)
        yield from write(plan)


def calibration_cost(plan: Plan) -> str:
    """Time a layer, and say how long calibrating will take."""
    questions, template = plan.settings.calibration.questions, plan.template
    reply = (*template.level_ids[0], *template.separator_ids, *template.answer_prefix_ids)
    before = 0 if plan.settings.prefix_snapshot else len(plan.prompt.prefix_ids)
    lengths, probes = (
        [before + len(plan.tokenizer.encode(text)) + len(reply) for text in some]
        for some in (questions, probing_questions(questions))
    )
    tokens = layer_tokens(plan.recipe, plan.source.config, lengths, probes)
    seconds = token_seconds(plan.source, plan.prompt.prefix_ids)
    return cost_sentence(len(questions), tokens, seconds)


def fold(plan: Plan) -> Planning:
    """Move outliers from activations into weights; the snapshot is scaled the same way."""
    scales: dict[Channels, Exponents] = {}
    layers = layer_inputs(plan.source, _prompts(plan))
    for index in range(plan.source.config.num_hidden_layers):
        yield f"activations {index}"
        scales |= layer_scales(plan.source, index, next(layers))
    return replace(plan, source=FoldedCheckpoint.of(plan.source, scales))


def mix(plan: Plan) -> Planning:
    """Choose the bits that the budget allows where they matter most."""
    questions = plan.settings.calibration.questions
    sizes = plan.weight_sizes()
    room = sizes.room(plan.settings.budget)
    probes = probe_set(questions, plan.tokenizer, plan.prompt, plan.template)
    inputs: Iterator[dict[str, Float32]] = iter(())
    if plan.recipe.error_feedback:
        inputs = layer_inputs(plan.source, _prompts(plan))
    damage = yield from DamageSearch(plan.source, plan.recipe, probes).steps(inputs)
    finer = choose_finer(damage, sizes, room)
    return replace(plan, recipe=plan.recipe.with_finer(finer))


def write(plan: Plan) -> Iterator[str]:
    """Write a bundle next to its tokenizer, yielding each step's name before it starts."""
    copy_configuration(plan.source.directory, plan.directory)
    yield from _write_graph(plan)
    if plan.settings.prefix_snapshot:
        yield from _write_snapshot(plan)
    if plan.settings.loop:
        yield "loop"
        snapshot = plan.directory / SNAPSHOT_FILE if plan.settings.prefix_snapshot else None
        graph, model = plan.directory / GRAPH_FILE, _model_info(plan)
        write_loop(graph, model, plan.template, plan.prompt, snapshot)
    if plan.settings.genai:
        yield "genai"
        config, model = plan.source.config, _model_info(plan)
        write_genai(plan.directory / GRAPH_FILE, model, config.genai_type, config.hidden_size)
    yield "manifest"
    save_manifest(_manifest(plan), plan.directory)


def _prompts(plan: Plan) -> CalibrationPrompts:
    """Return what to calibrate on; where no snapshot is shipped, the prefix counts too."""
    questions = plan.settings.calibration.questions
    given = calibration_prompts(questions, plan.tokenizer, plan.prompt, plan.template, plan.tail)
    return given if plan.settings.prefix_snapshot else given.whole()


def _write_graph(plan: Plan) -> Iterator[str]:
    config, head_ids = plan.source.config, plan.head_ids
    graph = DecoderGraph(plan.source, plan.recipe, plan.positions, plan.tail, head_ids)
    layers = layer_inputs(plan.source, _prompts(plan)) if plan.recipe.error_feedback else ()
    with WeightFile(plan.directory / f"{GRAPH_FILE}.data") as weights:
        g = GraphBuilder(weights)
        yield from graph.emit(g, layers)
    model = g.model(graph_inputs(config), graph_outputs(config, head_ids), version("foggen"))
    onnx.save_model(model, plan.directory / GRAPH_FILE)


def _write_snapshot(plan: Plan) -> Iterator[str]:
    layers = []
    caches = layer_caches(plan.source, plan.prompt.prefix_ids)
    for index in range(plan.source.config.num_hidden_layers):
        yield f"prefix snapshot {index}"
        cache = next(caches)
        layers.append(np.stack([cache.key, cache.value]))
    np.save(plan.directory / SNAPSHOT_FILE, np.stack(layers), allow_pickle=False)


def _manifest(plan: Plan) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        model=_model_info(plan),
        graph=GraphInfo(
            GRAPH_FILE,
            plan.tail,
            MIN_ONNXRUNTIME,
            loop_file=LOOP_FILE if plan.settings.loop else None,
            genai_file=GENAI_GRAPH_FILE if plan.settings.genai else None,
            head=plan.head,
        ),
        quantization=_quantization_info(plan),
        prompt=plan.prompt,
        template=plan.template,
        prefix_snapshot=None,
        routing=RoutingInfo(plan.settings.tau),
        files=file_infos(plan.directory),
        provenance={
            "tool": f"foggen-export {version('foggen')}",
            "checkpoint": plan.origin.name,
            "adapter": plan.origin.adapter_name,
            "weights_sha256": plan.source.weights_sha256(),
        },
    )


def _quantization_info(plan: Plan) -> QuantizationInfo:
    recipe, config = plan.recipe, plan.source.config
    folding = "smoothquant" if recipe.smoothing else None
    calibration = plan.settings.calibration.sha256 if recipe.calibrated else None
    groups = recipe.groups(config.matrix_columns(), config.hidden_size)
    return QuantizationInfo(recipe.name, groups, folding, calibration)


def _model_info(plan: Plan) -> ModelInfo:
    config = plan.source.config
    return ModelInfo(
        name=plan.origin.bundle_name,
        revision=plan.origin.revision,
        architecture=plan.source.architecture,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        context_length=plan.positions,
        eos_token_ids=plan.eos_token_ids,
    )
