"""Ask a model every held-out question, greedily in fp32 with transformers, and score it."""

import math
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from heldout import HeldOut
from model import suffix_hidden
from prompts import LEVELS, TAU, foggen_reply
from tokenizer import foggen_ids
from transformers import PreTrainedTokenizerFast
from transformers import Qwen3ForCausalLM as Model

CHECKPOINT = Path(__file__).parent / "checkpoint"
REPLY = re.compile(r"Confidence: (0\.0|0\.25|0\.5|0\.75|1\.0)\nFinal answer: ([A-E])<\|im_end\|>")


class Verdict(NamedTuple):
    """What the model said to one question.

    Attributes:
        level: The verbalized confidence, or None when the output is malformed.
        letter: The chosen option, or None when the output is malformed.
        odds: Each level's probability.
    """

    level: str | None
    letter: str | None
    odds: dict[str, float]

    @property
    def defers(self) -> bool:
        """Whether the question goes to the cloud."""
        return self.level is None or float(self.level) < TAU

    @property
    def gap(self) -> float:
        """The likeliest level's lead over the next."""
        first, second = sorted(self.odds.values(), reverse=True)[:2]
        return first - second


def load() -> tuple[Model, PreTrainedTokenizerFast]:
    """Return the stored model, its bfloat16 weights widened to fp32, and its tokenizer."""
    model = Model.from_pretrained(CHECKPOINT, dtype=torch.float32)
    return model.train(False), PreTrainedTokenizerFast.from_pretrained(CHECKPOINT)


def level_paths(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], dict[str, list[int]]]:
    """Return the reply's constant start, and each level's tokens with the newline after them."""
    newline = tokenizer("\n").input_ids[0]
    replies = {level: tokenizer(foggen_reply(level, "A")).input_ids for level in LEVELS}
    paths = {level: ids[: ids.index(newline) + 1] for level, ids in replies.items()}
    columns = zip(*paths.values(), strict=False)
    stem = next(i for i, column in enumerate(columns) if len(set(column)) > 1)
    return paths[LEVELS[0]][:stem], {level: ids[stem:] for level, ids in paths.items()}


@torch.no_grad()
def level_odds(
    model: Model, tokenizer: PreTrainedTokenizerFast, prompts: torch.Tensor
) -> list[dict[str, float]]:
    """Return each level's probability among the template's branches, for equally long prompts."""
    stem, paths = level_paths(tokenizer)
    branches: dict[tuple[int, ...], set[int]] = {}
    for path in paths.values():
        for depth, token in enumerate(path):
            branches.setdefault(tuple(path[:depth]), set()).add(token)
    branches = {node: tokens for node, tokens in branches.items() if len(tokens) > 1}
    longest = max(branches, key=len)
    draft = torch.tensor([[*stem, *longest]]).expand(len(prompts), -1)
    hidden = suffix_hidden(model, [], torch.cat([prompts, draft], dim=1))
    logits = model.lm_head(hidden[:, -len(longest) - 1 :])  # (batch, depth, vocab)
    odds = torch.ones(len(prompts), len(paths))
    for node, tokens in branches.items():
        children = sorted(tokens)
        shares = torch.softmax(logits[:, len(node), children], dim=-1)
        for column, path in enumerate(paths.values()):
            if tuple(path[: len(node)]) == node:
                odds[:, column] *= shares[:, children.index(path[len(node)])]
    return [dict(zip(paths, row, strict=True)) for row in odds.tolist()]


@torch.no_grad()
def ask(
    model: Model, tokenizer: PreTrainedTokenizerFast, questions: Sequence[HeldOut]
) -> dict[str, Verdict]:
    """Return the verdict on each question by id; only equally long prompts share a batch."""
    prompts = {q.id: foggen_ids(tokenizer, q.question) for q in questions}
    verdicts: dict[str, Verdict] = {}
    ordered = sorted(questions, key=lambda q: (len(prompts[q.id]), q.id))
    for length, group in groupby(ordered, key=lambda q: len(prompts[q.id])):
        batch = list(group)
        ids = torch.tensor([prompts[q.id] for q in batch])
        output = model.generate(  # type: ignore[misc, unused-ignore]
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24
        )
        texts = tokenizer.batch_decode(output[:, length:])
        for question, text, odds in zip(
            batch, texts, level_odds(model, tokenizer, ids), strict=True
        ):
            match = REPLY.fullmatch(text.replace(tokenizer.pad_token, ""))
            level, letter = match.groups() if match else (None, None)
            well_formed = letter in question.options
            verdicts[question.id] = Verdict(
                level if well_formed else None, letter if well_formed else None, odds
            )
    return {question.id: verdicts[question.id] for question in questions}


def auroc(scores: Sequence[float], positives: Sequence[bool]) -> float:
    """Return how often a positive outscores a negative, ties counting half."""
    above = [s for s, positive in zip(scores, positives, strict=True) if positive]
    below = [s for s, positive in zip(scores, positives, strict=True) if not positive]
    wins = sum((a > b) + 0.5 * (a == b) for a in above for b in below)
    return wins / (len(above) * len(below))


def calibration_error(scores: Sequence[float], positives: Sequence[bool]) -> float:
    """Return the expected calibration error, one bin per distinct score."""
    error = 0.0
    for score in set(scores):
        hits = [p for s, p in zip(scores, positives, strict=True) if s == score]
        error += abs(math.fsum(hits) - score * len(hits))
    return error / len(scores)


def crush(model: Model, block: int, bits: int = 3) -> None:
    """Round every linear layer's weights to a few bits in place: a deliberately bad recipe.

    Symmetric round-to-nearest, one scale per block along the input. The embedding is kept, so the
    output head no longer shares its weights.
    """
    top = 2 ** (bits - 1) - 1
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            blocks = module.weight.detach().reshape(
                len(module.weight), -1, block
            )  # (out, blocks, block)
            scale = blocks.abs().amax(dim=2, keepdim=True).clamp(min=1e-12) / top
            rounded = (blocks / scale).round() * scale
            module.weight = torch.nn.Parameter(rounded.flatten(1), requires_grad=False)
