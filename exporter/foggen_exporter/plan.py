"""What can be refused before anything that takes long: calibrating, tracing, writing weights."""

from collections.abc import Mapping

from foggen_exporter.architectures.config import DecoderConfig
from foggen_exporter.graphs.matmul import check_blocks
from foggen_exporter.recipes.recipe import Recipe
from foggen_runtime.bundle.manifest import PromptInfo, TemplateInfo
from foggen_runtime.decide.trie import TemplateTrie
from foggen_runtime.errors import CheckpointError, ConfigError
from foggen_runtime.text.tokenizer import QuestionTokenizer


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
        ConfigError: So many hold no question.
        CheckpointError: The checkpoint was made for too few to hold one.
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
            f"reply, is {wanted}; questions of usual length need some hundred more"
        )
    return wanted if limit is None else min(wanted, limit)


def check_matrices(config: DecoderConfig, recipe: Recipe) -> None:
    """Check that a recipe's blocks divide the matrices of a checkpoint.

    Raises:
        CheckpointError: One is not divided.
    """
    inputs = {name: columns for name, (_, columns) in config.matrix_shapes(0).items()}
    forms = {form.block_size: form for form in (recipe.layers, recipe.finer) if form}
    for form in forms.values():
        check_all_blocks(inputs, form.block_size)
    check_blocks("embed_tokens", config.hidden_size, recipe.embedding.block_size)


def check_all_blocks(inputs: Mapping[str, int], block_size: int | None) -> None:
    """Check that blocks divide matrices, given by their input sizes.

    Raises:
        CheckpointError: One is not divided.
    """
    for name, columns in inputs.items():
        check_blocks(name, columns, block_size)
