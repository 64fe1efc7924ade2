"""Held-out questions of the tiny FogGen: the graph, the decoders and the recipes."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from transformers import AutoTokenizer, Qwen3ForCausalLM

from foggen_exporter.text.reply_template import load_template
from foggen_runtime import Decoding, EngineOptions, Foggen, OpenOptions, Result
from foggen_runtime.decide.plain import Decision
from foggen_runtime.model.decoding import DecodingMode
from tests.conftest import TINY, BundleOf

HELD_OUT = [
    json.loads(line) for line in (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
]
QUESTIONS: list[str] = [entry["question"] for entry in HELD_OUT]
ONE_THREAD = OpenOptions(engine=EngineOptions(threads=1, spinning=False))


@contextmanager
def opened(tiny_bundle: BundleOf, quant: str) -> Iterator[Foggen]:
    with Foggen.open(tiny_bundle(quant), options=ONE_THREAD) as foggen:
        yield foggen


def output(foggen: Foggen, question: str, mode: DecodingMode) -> tuple[Decision, tuple[int, ...]]:
    """Return the decision and every token written, whatever the confidence."""
    model = foggen.model
    decoder = model.decoder(Decoding(mode))
    decision = decoder.decide(foggen.prompt_ids(question)[model.prefix_length :])
    if decision.level is None:
        return decision, decision.tokens
    return decision, (*decision.tokens, *decoder.answer(16))


COUNTS = [
    60,
    pytest.param(300, marks=pytest.mark.slow),
    pytest.param(1200, marks=pytest.mark.long),
]


@pytest.fixture(scope="module", params=COUNTS)
def questions(request: pytest.FixtureRequest) -> list[str]:
    """The first questions; the file is shuffled."""
    return QUESTIONS[: request.param]


@pytest.fixture(scope="module")
def stepped(tiny_bundle: BundleOf, questions: list[str]) -> list[tuple[Decision, tuple[int, ...]]]:
    """What the plain loop writes in fp32."""
    with opened(tiny_bundle, "fp32") as foggen:
        return [output(foggen, question, "step") for question in questions]


@pytest.fixture(scope="module")
def prompts(tiny_bundle: BundleOf, questions: list[str]) -> list[list[int]]:
    with opened(tiny_bundle, "fp32") as foggen:
        return [foggen.prompt_ids(question) for question in questions]


def test_prompts_are_those_of_the_chat_template(
    questions: list[str], prompts: Sequence[list[int]]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY / "checkpoint")
    for question, prompt in zip(questions, prompts, strict=True):
        messages = [
            {"role": "system", "content": load_template("mcq").system},
            {"role": "user", "content": question},
        ]
        expected = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, enable_thinking=False, return_dict=False
        )
        assert prompt == expected


def test_the_plain_loop_writes_what_transformers_writes_greedily(
    prompts: Sequence[list[int]], stepped: Sequence[tuple[Decision, tuple[int, ...]]]
) -> None:
    """Feeding transformers our output must give it back as the arg max after each token."""
    model = Qwen3ForCausalLM.from_pretrained(TINY / "checkpoint", dtype=torch.float32)
    for prompt, (_, tokens) in zip(prompts, stepped, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *tokens[:-1]]])).logits[0]
        assert tuple(logits[len(prompt) - 1 :].argmax(-1).tolist()) == tokens
        assert tokens[-1] in model.generation_config.eos_token_id


def test_every_output_is_well_formed_and_every_level_in_use(
    stepped: Sequence[tuple[Decision, tuple[int, ...]]],
) -> None:
    levels = {decision.level for decision, _ in stepped}
    assert levels == {0, 1, 2, 3, 4}


def test_greedy_equals_the_plain_loop_token_for_token(
    tiny_bundle: BundleOf,
    questions: list[str],
    stepped: Sequence[tuple[Decision, tuple[int, ...]]],
) -> None:
    with opened(tiny_bundle, "fp32") as foggen:
        for question, (_, tokens) in zip(questions, stepped, strict=True):
            assert output(foggen, question, "greedy")[1] == tokens


def test_constrained_gives_the_same_level_and_answer_in_one_pass(
    tiny_bundle: BundleOf,
    questions: list[str],
    stepped: Sequence[tuple[Decision, tuple[int, ...]]],
) -> None:
    with opened(tiny_bundle, "fp32") as foggen:
        for question, (_, tokens) in zip(questions, stepped, strict=True):
            assert output(foggen, question, "constrained")[1] == tokens
            deferred = foggen.ask(question, tau=1)
            assert deferred.source == "local" or deferred.usage.forward_passes == 1


def answers(tiny_bundle: BundleOf, quant: str) -> list[Result]:
    with opened(tiny_bundle, quant) as foggen:
        return [foggen.ask(question, route="local_only") for question in QUESTIONS]


def flip_rate(one: Sequence[Result], other: Sequence[Result], tau: float = 0.5) -> float:
    """Share of questions whose decision differs."""
    deferred = [[(result.confidence or 0) < tau for result in results] for results in (one, other)]
    flips: list[bool] = [a != b for a, b in zip(*deferred, strict=True)]
    return sum(flips) / len(flips)


@pytest.fixture(scope="module")
def reference(tiny_bundle: BundleOf) -> list[Result]:
    return answers(tiny_bundle, "fp32")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quant", "limit"),
    [
        ("int8", 0.005),
        ("int8-weight", 0.01),
        ("int4", 0.03),
        ("int4-gptq", 0.015),
        ("int4-mixed", 0.015),
    ],
)
def test_recipes_keep_the_decisions(
    tiny_bundle: BundleOf, reference: list[Result], quant: str, limit: float
) -> None:
    quantized = answers(tiny_bundle, quant)
    agreement = [a.choice == b.choice for a, b in zip(quantized, reference, strict=True)]
    rate = flip_rate(quantized, reference)
    print(f"{quant}: flips {rate:.2%}, answers agree {sum(agreement) / len(agreement):.2%}")
    assert rate <= limit
    assert sum(agreement) >= 0.85 * len(agreement)
