"""The three decoders against each other, on models of noise and of script."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from foggen_runtime.arrays import Float32
from foggen_runtime.decide.constrained import ConstrainedDecoder
from foggen_runtime.decide.greedy import GreedyDecoder
from foggen_runtime.decide.plain import Decoder, StepDecoder, last_rows
from foggen_runtime.decide.trie import TemplateTrie
from tests.runtime.decide.test_trie import CARD, STEM, random_trie
from tests.support.fake_engine import FakeEngine, NextLogits, random_logits, scripted_logits

VOCAB = 12
EOS = 11
PROMPT = (7, 8, 7)
ANSWER_PREFIX = (6, 7)


@dataclass
class Run:
    """One question's decoder, and the engine it runs on."""

    engine: FakeEngine
    decoder: Decoder

    def tokens(self, limit: int = 20) -> tuple[int, ...]:
        decision = self.decoder.decide(PROMPT)
        if decision.level is None:
            return decision.tokens
        return (*decision.tokens, *self.decoder.answer(limit))


def make(mode: str, trie: TemplateTrie, logits: NextLogits, tail: int = 64) -> Run:
    engine = FakeEngine(logits, tail)
    if mode == "step":
        return Run(engine, StepDecoder(engine, trie, (EOS,)))
    if mode == "greedy":
        return Run(engine, GreedyDecoder(engine, trie, ANSWER_PREFIX, (EOS,)))
    return Run(engine, ConstrainedDecoder(engine, trie, ANSWER_PREFIX, (EOS,)))


def scripts() -> Iterator[tuple[TemplateTrie, NextLogits]]:
    """Random tries, with models that follow the template for a random while, then noise."""
    generator = np.random.default_rng(11)
    for seed in range(300):
        trie = random_trie(generator)
        path = trie.paths[generator.integers(len(trie.paths))]
        script = (*path, *ANSWER_PREFIX, 3, EOS)
        kept = int(generator.integers(0, len(script) + 1))
        noise = random_logits(VOCAB, seed)
        yield trie, scripted_logits(script[:kept], len(PROMPT), noise)


def test_greedy_writes_what_the_plain_loop_writes_and_feeds_the_same_cache() -> None:
    for trie, logits in scripts():
        step, greedy = make("step", trie, logits), make("greedy", trie, logits)
        assert greedy.tokens() == step.tokens()
        written = len(step.engine.cache.tokens)
        assert greedy.engine.cache.tokens[:written] == step.engine.cache.tokens


def test_constrained_agrees_wherever_the_plain_loop_is_well_formed() -> None:
    agreed = 0
    for trie, logits in scripts():
        step = make("step", trie, logits).tokens()
        path = next((path for path in trie.paths if step[: len(path)] == path), None)
        if path and step[len(path) :][: len(ANSWER_PREFIX)] == ANSWER_PREFIX:
            agreed += 1
            assert make("constrained", trie, logits).tokens() == step
    assert agreed > 50


def test_a_short_tail_takes_more_passes_and_changes_nothing() -> None:
    for trie, logits in itertools.islice(scripts(), 60):
        for mode in ("greedy", "constrained"):
            wide, narrow = make(mode, trie, logits), make(mode, trie, logits, tail=1)
            assert narrow.tokens() == wide.tokens()
            assert narrow.engine.forward_passes >= wide.engine.forward_passes


def test_all_decoders_read_the_same_probabilities() -> None:
    path = CARD.paths[1]
    logits = scripted_logits((*path, *ANSWER_PREFIX, 3, EOS), len(PROMPT), random_logits(40, 3))
    readings = [
        make(mode, CARD, logits).decoder.decide(PROMPT).reading
        for mode in ("step", "greedy", "constrained")
    ]
    assert readings[0] is not None
    assert readings[0].level == 1
    for reading in readings[1:]:
        assert reading is not None
        assert reading.level == 1
        assert reading.level_probabilities == readings[0].level_probabilities


def test_without_every_branch_the_plain_loop_reads_nothing() -> None:
    path = CARD.paths[4]  # `1.0`: the branch after `0.` is never visited
    logits = scripted_logits(path, len(PROMPT), random_logits(40, 3))
    assert make("step", CARD, logits).decoder.decide(PROMPT).reading is None


@pytest.mark.parametrize("level", range(5))
def test_passes_of_the_cards_template(level: int) -> None:
    path = CARD.paths[level]
    script = (*path, *ANSWER_PREFIX, 3, EOS)
    logits = scripted_logits(script, len(PROMPT), random_logits(40, level))
    run = make("constrained", CARD, logits)
    run.decoder.decide(PROMPT)
    assert run.engine.forward_passes == 1
    assert tuple(run.decoder.answer(20)) == (*ANSWER_PREFIX, 3, EOS)
    assert run.engine.forward_passes == 3  # the rest of the template, then the letter's end
    stepping = make("step", CARD, logits)
    stepping.decoder.decide(PROMPT)
    assert stepping.engine.forward_passes == len(path)


@pytest.mark.parametrize("mode", ["step", "greedy", "constrained"])
def test_a_decoder_forgets_the_question_before(mode: str) -> None:
    for trie, logits in itertools.islice(scripts(), 60):
        run = make(mode, trie, logits)
        first, held = run.tokens(), list(run.engine.cache.tokens)
        run.engine.forward((1, 2, 3))  # another decoder's
        assert run.tokens() == first
        assert run.engine.cache.tokens == held


def test_branches_off_the_draft_cost_a_pass_each() -> None:
    trie = TemplateTrie(((1, 2, 9), (1, 3, 9), (4, 5, 9), (4, 6, 9)))
    run = make("constrained", trie, random_logits(VOCAB, 1))
    run.decoder.decide(PROMPT)
    assert run.engine.forward_passes == 2


def test_an_output_off_the_template_is_malformed() -> None:
    logits = scripted_logits((*STEM, 30), len(PROMPT), random_logits(40, 0))
    for mode in ("step", "greedy"):
        decision = make(mode, CARD, logits).decoder.decide(PROMPT)
        assert decision.level is None
        assert decision.tokens == (*STEM, 30)


def test_constrained_says_how_little_the_template_was_meant() -> None:
    logits = scripted_logits((30, 30, 30), len(PROMPT), random_logits(40, 0))
    reading = make("constrained", CARD, logits).decoder.decide(PROMPT).reading
    assert reading is not None
    assert reading.template_probability is not None
    assert reading.template_probability < 1e-6


@pytest.mark.parametrize("mode", ["step", "greedy", "constrained"])
@pytest.mark.parametrize("position", range(len(CARD.paths[1]) - 1))
def test_every_token_up_to_the_level_counts_in_the_template_probability(
    mode: str, position: int
) -> None:
    path = CARD.paths[1]
    sure = scripted_logits(path, len(PROMPT), random_logits(40, 0))
    elsewhere = 30

    def torn_at_one_token(context: tuple[int, ...]) -> Float32:
        row = sure(context)
        if context == (*PROMPT, *path[:position]):
            row[elsewhere] = row[path[position]] - math.log(3)
        return row

    reading = make(mode, CARD, torn_at_one_token).decoder.decide(PROMPT).reading
    assert reading is not None
    # The constrained pass ends with the draft, `0.`: of `0.25` it never asks for the 5.
    weighed = mode != "constrained" or position < len(path) - 2
    assert reading.template_probability == pytest.approx(0.75 if weighed else 1.0)


def test_the_answer_is_held_to_the_choices() -> None:
    script = (*CARD.paths[3], *ANSWER_PREFIX, 3, EOS)
    engine = FakeEngine(scripted_logits(script, len(PROMPT), random_logits(40, 0)))
    decoder = ConstrainedDecoder(engine, CARD, ANSWER_PREFIX, (EOS,), first_answer_ids=(4, 5))
    decoder.decide(PROMPT)
    assert tuple(decoder.answer(3))[2] in (4, 5)


@pytest.mark.parametrize("mode", ["step", "greedy", "constrained"])
def test_the_limit_bounds_the_answer(mode: str) -> None:
    script = (*CARD.paths[0], *ANSWER_PREFIX, *[3] * 30)
    logits = scripted_logits(script, len(PROMPT), random_logits(40, 0))
    for limit in (1, 2, 3, 7):
        run = make(mode, CARD, logits)
        run.decoder.decide(PROMPT)
        assert tuple(run.decoder.answer(limit)) == (*ANSWER_PREFIX, *[3] * 30)[:limit]


def test_the_context_length_bounds_the_answer() -> None:
    script = (*CARD.paths[0], *ANSWER_PREFIX, *[3] * 30)
    logits = scripted_logits(script, len(PROMPT), random_logits(40, 0))
    run = make("constrained", CARD, logits)
    run.engine.context_length = 20
    run.decoder.decide(PROMPT)
    assert list(run.decoder.answer(1000))[-1] == 3
    assert run.engine.cache.length == 20


def test_last_rows_are_those_of_one_pass() -> None:
    ids = (1, 2, 3, 4, 5, 6, 7)
    for tail, count in itertools.product(range(1, 8), range(1, 8)):
        logits = random_logits(VOCAB, 0)
        whole = FakeEngine(logits, 64).forward(ids)[-count:]
        assert np.array_equal(last_rows(FakeEngine(logits, tail), ids, count), whole)
