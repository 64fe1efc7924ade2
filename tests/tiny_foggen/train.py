"""Train the tiny FogGen by FogGen's own recipe and write ``checkpoint/``.

1. Teach answers: many questions with the answers hearsay gives them.
2. Let the model answer other questions several times over, by sampling.
3. Round each question's hit rate to the nearest confidence level.
4. Fine-tune on (question, confidence, answer) under FogGen's system prompt.

Run from anywhere: ``python tests/tiny_foggen/train.py``. Then ``card.py`` measures the result.
"""

import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from model import build_model, pad, reply_loss, suffix_hidden
from prompts import foggen_reply, nearest_level
from questions import LETTERS, Question, generate, stream
from tokenizer import build_tokenizer, foggen_ids, render
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3ForCausalLM

HERE = Path(__file__).parent
CHECKPOINT = HERE / "checkpoint"

ANSWER_LEADS = ("Final answer:", "Final answer:", "Answer:", "The answer is")


class Phase(NamedTuple):
    """How long and how fast to train."""

    steps: int
    batch: int
    peak_rate: float
    warmup: int


class Recipe(NamedTuple):
    """Everything that decides the trained weights.

    Each phase restarts the optimizer and the learning rate. ``confidence`` has one row of phases
    per pool of sampled questions; the pool's number is its seed.
    """

    seed: int = 0
    answers: tuple[Phase, ...] = (
        Phase(steps=1000, batch=64, peak_rate=1e-3, warmup=100),
        Phase(steps=300, batch=64, peak_rate=7e-4, warmup=15),
    )
    confidence: tuple[tuple[Phase, ...], ...] = (
        (
            Phase(steps=300, batch=32, peak_rate=4e-4, warmup=20),
            Phase(steps=700, batch=32, peak_rate=7e-4, warmup=20),
        ),
        (Phase(steps=600, batch=32, peak_rate=6e-4, warmup=20),),
    )
    pool_size: int = 12_800
    samples: int = 8


class Example(NamedTuple):
    """Token ids of one prompt and its reply."""

    prompt: list[int]
    reply: list[int]


def answer_examples(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[Example]:
    """Yield examples of plain answering, without system prompt and confidence."""
    rng = random.Random(seed)
    for question in stream(seed, "pretrain"):
        prompt = render(tokenizer, [{"role": "user", "content": question.question}])
        ids = tokenizer(prompt + rng.choice(ANSWER_LEADS)).input_ids
        yield Example(ids, tokenizer(f" {question.hearsay}").input_ids)


def run_phase(
    model: Qwen3ForCausalLM,
    phase: Phase,
    prefix: Sequence[int],
    examples: Iterator[Example],
    report: Callable[[str], None] = print,
) -> None:
    """Train for ``phase.steps`` steps with warm-up and a cosine learning rate."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=phase.peak_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    model.train()
    recent: list[float] = []
    started = time.perf_counter()
    for step in range(phase.steps):
        progress = step / phase.steps
        rate = min(1.0, (step + 1) / phase.warmup) * (0.525 + 0.475 * math.cos(math.pi * progress))
        optimizer.param_groups[0]["lr"] = phase.peak_rate * rate
        batch = list(islice(examples, phase.batch))
        loss = reply_loss(model, prefix, [e.prompt for e in batch], [e.reply for e in batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())
        if (step + 1) % 100 == 0:
            mean = sum(recent[-100:]) / 100
            report(f"step {step + 1:5d}  loss {mean:.4f}  {time.perf_counter() - started:.0f} s")
    model.train(False)


@torch.no_grad()
def letter_odds(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: list[Question]
) -> torch.Tensor:
    """Return each letter's probability as plain answer, over the question's own options."""
    prompts = [render(tokenizer, [{"role": "user", "content": q.question}]) for q in questions]
    rows = [tokenizer(prompt + ANSWER_LEADS[0]).input_ids for prompt in prompts]
    with torch.autocast("cpu", torch.bfloat16):
        hidden = suffix_hidden(model, [], pad(rows))
        last = hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
        logits = model.lm_head(last).float()
    letters = [tokenizer.convert_tokens_to_ids(f"Ġ{letter}") for letter in LETTERS]
    logits = logits[:, letters]
    for row, question in zip(logits, questions, strict=True):
        row[len(question.options) :] = -torch.inf
    return torch.softmax(logits, dim=-1)  # (questions, letters)


def assess(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seed: int
) -> list[tuple[Question, str, str]]:
    """Return (question, confidence level, the model's answer) by answering repeatedly."""
    generator = torch.Generator().manual_seed(seed)
    questions = generate(seed, recipe.pool_size, "tune")
    assessed = []
    for start in range(0, len(questions), 256):
        chunk = questions[start : start + 256]
        odds = letter_odds(model, tokenizer, chunk)
        picks = torch.multinomial(odds, recipe.samples, replacement=True, generator=generator)
        for question, pick, favourite in zip(chunk, picks.tolist(), odds.argmax(1), strict=True):
            hits = sum(LETTERS[i] == question.answer for i in pick) / recipe.samples
            assessed.append((question, nearest_level(hits), LETTERS[favourite]))
    return assessed


def constant_prefix(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Return the ids before the user's turn: up to and with the second ``<|im_start|>``."""
    ids = foggen_ids(tokenizer, "")
    return ids[: ids.index(ids[0], 1) + 1]


def confidence_examples(
    tokenizer: PreTrainedTokenizerFast, assessed: list[tuple[Question, str, str]], seed: int
) -> Iterator[Example]:
    """Yield the assessed questions over and over, shuffled, without the constant prefix."""
    skipped = len(constant_prefix(tokenizer))
    rng = random.Random(seed)
    while True:
        for question, level, letter in rng.sample(assessed, len(assessed)):
            prompt = foggen_ids(tokenizer, question.question)[skipped:]
            reply = tokenizer(foggen_reply(level, letter) + "<|im_end|>").input_ids
            yield Example(prompt, reply)


def summarize(assessed: list[tuple[Question, str, str]]) -> str:
    """Return one line per domain: the share of each level, and how often the model is right."""
    lines = []
    for domain in sorted({question.domain for question, _, _ in assessed}):
        rows = [row for row in assessed if row[0].domain == domain]
        levels = Counter(level for _, level, _ in rows)
        shares = {level: round(levels[level] / len(rows), 2) for level in sorted(levels)}
        right = sum(letter == question.answer for question, _, letter in rows) / len(rows)
        lines.append(f"{domain:9s} right {right:.2f}  levels {shares}")
    return "\n".join(lines)


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write the checkpoint in bfloat16, its config readable by transformers 4 and 5."""
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    model.bfloat16().save_pretrained(CHECKPOINT)
    (CHECKPOINT / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(CHECKPOINT)
    path = CHECKPOINT / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    config["torch_dtype"] = config["dtype"]
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_record(recipe: Recipe, seconds: int) -> None:
    """Store what was done and how long it took, for the card."""
    phases = [phase for row in recipe.confidence for phase in row]
    record = {
        **recipe._asdict(),
        "answers": [phase._asdict() for phase in recipe.answers],
        "confidence": [phase._asdict() for phase in phases],
        "seconds": seconds,
    }
    (HERE / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run the recipe."""
    torch.set_num_threads(2)
    recipe = Recipe()
    started = time.perf_counter()
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, recipe.seed)
    lessons = answer_examples(tokenizer, recipe.seed)
    for phase in recipe.answers:
        run_phase(model, phase, [], lessons)
    pools = [assess(model, tokenizer, recipe, seed) for seed in range(len(recipe.confidence))]
    print(summarize(pools[0]))
    prefix = constant_prefix(tokenizer)
    for seed, phases in enumerate(recipe.confidence):
        examples = confidence_examples(tokenizer, pools[seed], seed)
        for phase in phases:
            run_phase(model, phase, prefix, examples)
    save(model, tokenizer)
    seconds = round(time.perf_counter() - started)
    write_record(recipe, seconds)
    print(f"trained in {seconds} s")


if __name__ == "__main__":
    main()
