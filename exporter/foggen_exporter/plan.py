"""What a bundle will be made of, and refusing early what cannot be exported."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from transformers import AutoConfig

from foggen_exporter.architectures.config import DecoderConfig
from foggen_exporter.architectures.decoder import TensorSource
from foggen_exporter.calibration.budget import WeightSizes
from foggen_exporter.export_settings import ExportSettings, Origin
from foggen_exporter.graphs.loop_parts import LoopTables
from foggen_exporter.recipes.recipe import Recipe, fitted
from foggen_exporter.text.conversation import Conversation, Speaker
from foggen_exporter.text.prompt import head_info
from foggen_exporter.text.tokenizer_files import write_tokenizer
from foggen_runtime.bundle.manifest import HeadInfo, PromptInfo, TemplateInfo
from foggen_runtime.decide.trie import TemplateTrie
from foggen_runtime.errors import CheckpointError, ConfigError
from foggen_runtime.text.tokenizer import QuestionTokenizer


@dataclass(frozen=True)
class Plan:
    """What a bundle will be made of; a step that finds out more returns another plan.

    Attributes:
        source: The checkpoint; after folding, the folded one.
        recipe: How its weights are stored; after choosing bits, with those.
        origin: Where the checkpoint came from.
        settings: What was asked for.
        directory: Where the bundle goes; the tokenizer is there.
        tokenizer: The bundle's.
        prompt: For the manifest.
        template: For the manifest.
        eos_token_ids: What ends a reply.
        head: The tokens that get logits, if not all do.
        positions: The most tokens of prompt and answer.
        notes: Sentences to show to the user first.
    """

    source: TensorSource
    recipe: Recipe
    origin: Origin
    settings: ExportSettings
    directory: Path
    tokenizer: QuestionTokenizer
    prompt: PromptInfo
    template: TemplateInfo
    eos_token_ids: tuple[int, ...]
    head: HeadInfo | None
    positions: int
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, source: TensorSource, origin: Origin, settings: ExportSettings, directory: Path
    ) -> Self:
        """Write the tokenizer, derive everything small, and refuse whatever cannot be exported.

        Args:
            source: The checkpoint.
            origin: Where it came from.
            settings: What to make of it.
            directory: An empty directory to write to.

        Raises:
            CheckpointError: The tokenizer does not fit the model, no block size divides a
                weight, or values are not finite.
            ConfigError: The template does not fit the tokenizer, the context length leaves no room
                for a question, the budget is too small, or the loop cannot read the template.
        """
        config = source.config
        speaker = Speaker(
            source.directory,
            origin.adapter,
            AutoConfig.for_model(config.model_type),
            config.vocab_size,
            config.eos_token_ids,
        )
        said = Conversation.of(speaker, settings.template)
        template, head = said.template, None
        if settings.head == "choices":
            head = head_info(said.tokenizer, settings.template, said.eos_token_ids)
            # With a reduced head nothing says what else the model might have written.
            template = replace(template, min_template_probability=0.0)
        tokenizer = write_tokenizer(said.tokenizer, settings.template, said.prompt, directory)
        limit = config.max_position_embeddings
        length = positions(settings.context_length, limit, tokenizer, said.prompt, template)
        plan = cls(
            source=source,
            recipe=settings.recipe,
            origin=origin,
            settings=settings,
            directory=directory,
            tokenizer=tokenizer,
            prompt=said.prompt,
            template=template,
            eos_token_ids=said.eos_token_ids,
            head=head,
            positions=length,
            notes=(*said.notes, *smaller_blocks(config, settings.recipe)),
        )
        plan._check()
        return plan

    def _check(self) -> None:
        """Refuse whatever cannot be exported; raises as `of` does."""
        if self.recipe.finer:
            self.weight_sizes().room(self.settings.budget)
        if self.settings.loop:
            LoopTables.of(self.template)
        if self.recipe.calibrated:
            # Otherwise each weight is read, and so checked, before anything slow begins.
            self.source.check_finite()

    @property
    def tail(self) -> int:
        """How many last positions get logits: as many as one pass needs to read the level."""
        return TemplateTrie.of(self.template).rows_needed(self.template.answer_prefix_ids)

    @property
    def head_ids(self) -> tuple[int, ...] | None:
        """The only tokens that get logits; None for all."""
        return self.head.token_ids if self.head else None

    def weight_sizes(self) -> WeightSizes:
        """Return the sizes of the groups of weights, for a recipe of mixed bits."""
        beside = 0 if self.source.tied else self.source.config.vocab_size
        rows = len(self.head.token_ids) if self.head else beside
        return WeightSizes.of(self.source, self.recipe, self.positions, rows)


def positions(
    wanted: int,
    limit: int | None,
    tokenizer: QuestionTokenizer,
    prompt: PromptInfo,
    template: TemplateInfo,
) -> int:
    """Return how many tokens of prompt and answer a bundle takes.

    Args:
        wanted: How many are asked for.
        limit: How many the checkpoint was made for, if it says.
        tokenizer: The bundle's.
        prompt: What stands around a question.
        template: What is written in reply.

    Raises:
        ConfigError: That leaves no room for a question.
        CheckpointError: The checkpoint was made for too few.
    """
    longest = max(len(path) for path in TemplateTrie.of(template).paths)
    shortest_prompt = len(tokenizer.prompt_ids(prompt, "?"))
    # A reply has at least one token of answer.
    needed = shortest_prompt + longest + len(template.answer_prefix_ids) + 1
    if limit is not None and limit < needed:
        raise CheckpointError(
            f"config.json: max_position_embeddings: must be at least {needed} to hold the prompt, "
            f"a question and the reply, is {limit}"
        )
    if wanted < needed:
        raise ConfigError(
            f"context_length: must be at least {needed} to hold the prompt, a question and the "
            f"reply, is {wanted}; questions of the usual length need a few hundred more"
        )
    return wanted if limit is None else min(wanted, limit)


def smaller_blocks(config: DecoderConfig, recipe: Recipe) -> tuple[str, ...]:
    """Say which matrices get smaller blocks than the recipe's, if any do.

    Raises:
        CheckpointError: No blocks divide a matrix.
    """
    stored = {name: (recipe.layers, size) for name, (_, size) in config.matrix_shapes(0).items()}
    stored["embedding"] = (recipe.embedding, config.hidden_size)
    smaller = []
    for name, (form, columns) in stored.items():
        size = fitted(form, columns, name).block_size
        if size != form.block_size:
            smaller.append(f"{name.rpartition('.')[2]} of {size}, for its {columns} columns")
    if not smaller:
        return ()
    return (f"Some blocks are smaller than the recipe's, to divide a matrix: {'; '.join(smaller)}",)
