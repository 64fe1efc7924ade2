import itertools
import math

import numpy as np
import pytest

from foggen_runtime.bundle.manifest import TemplateInfo
from foggen_runtime.decide.trie import ROOT, TemplateTrie, read_levels

STEM = (10, 11, 12, 13)
NEWLINE = 9
CARD = TemplateTrie(
    tuple(
        (*STEM, *level, NEWLINE)
        for level in ((0, 20, 0), (0, 20, 2, 5), (0, 20, 5), (0, 20, 7, 5), (1, 20, 0))
    )
)


def test_the_cards_levels_need_one_draft() -> None:
    assert CARD.branches == ((*STEM, 0, 20), STEM)
    assert CARD.drafts == ((*STEM, 0, 20),)


def test_the_tail_covers_the_draft_and_what_follows_it() -> None:
    assert CARD.rows_needed(answer_prefix=()) == 7  # four of the stem, two drafted, one before
    assert CARD.rows_needed(answer_prefix=(30,) * 5) == 9  # `1 . 0 ⏎` and five more


def test_forced_tokens_run_to_the_next_choice_or_the_leaf() -> None:
    assert CARD.forced(ROOT) == STEM
    assert CARD.forced((*STEM, 0)) == (20,)
    assert CARD.forced((*STEM, 0, 20, 7)) == (5, NEWLINE)
    assert CARD.forced((*STEM, 0, 20)) == ()


def test_branches_off_one_path_need_several_drafts() -> None:
    trie = TemplateTrie(((1, 2, 9), (1, 3, 9), (4, 5, 9), (4, 6, 9)))
    assert set(trie.drafts) == {(1,), (4,)}


def test_a_single_level_is_drafted_up_to_its_leaf() -> None:
    trie = TemplateTrie(((1, 2, 9),))
    assert trie.drafts == ((1, 2),)
    reading = read_levels(trie, {(1,): np.zeros(10, np.float32)})
    assert reading.level == 0
    assert reading.level_probabilities == (1.0,)


def test_a_level_ends_with_the_templates_separator() -> None:
    template = TemplateInfo(
        levels=("0", "0.5"),
        level_ids=((1,), (1, 1)),
        separator_ids=(NEWLINE,),
        answer_prefix="",
        answer_prefix_ids=(),
        min_template_probability=0.0,
    )
    assert TemplateTrie.of(template).paths == ((1, NEWLINE), (1, 1, NEWLINE))


def test_a_level_may_begin_another_when_a_separator_ends_it() -> None:
    trie = TemplateTrie(((1, 9), (1, 1, 9)))
    assert trie.branches == ((1,),)


def test_without_a_separator_it_may_not() -> None:
    with pytest.raises(ValueError, match="no level may begin with another"):
        TemplateTrie(((1,), (1, 1)))


def test_probabilities_multiply_along_the_branches() -> None:
    first = np.full(40, -50.0, np.float32)
    first[0], first[1] = math.log(0.55), math.log(0.45)
    second = np.full(40, -50.0, np.float32)
    for token, share in ((0, 0.1), (2, 0.4), (5, 0.3), (7, 0.2)):
        second[token] = math.log(share)
    reading = read_levels(CARD, {STEM: first, (*STEM, 0, 20): second})
    expected = [0.55 * 0.1, 0.55 * 0.4, 0.55 * 0.3, 0.55 * 0.2, 0.45]
    assert reading.level_probabilities == pytest.approx(expected, rel=1e-6)
    # Greedy decoding takes `0`, though `1.0` is the most probable level.
    assert reading.level == 1
    assert reading.template_probability == pytest.approx(1.0)


def test_template_probability_is_the_mass_on_the_templates_continuations() -> None:
    first = np.full(40, -np.inf, np.float32)
    first[[0, 1, 30]] = np.log([0.2, 0.1, 0.7]).astype(np.float32)
    second = np.full(40, -np.inf, np.float32)
    second[[2, 31]] = np.log([0.5, 0.5]).astype(np.float32)
    reading = read_levels(CARD, {STEM: first, (*STEM, 0, 20): second})
    assert reading.template_probability == pytest.approx(0.3 * 0.5)


def test_probabilities_equal_an_enumeration_of_all_paths() -> None:
    generator = np.random.default_rng(5)
    for _ in range(50):
        trie = random_trie(generator)
        rows = {node: generator.normal(size=12).astype(np.float32) for node in trie.children}
        weights = [path_weight(trie, rows, path) for path in trie.paths]
        reading = read_levels(trie, rows)
        assert reading.level_probabilities == pytest.approx(weights, rel=1e-5)
        assert sum(reading.level_probabilities) == pytest.approx(1.0)


def path_weight(
    trie: TemplateTrie, rows: dict[tuple[int, ...], np.ndarray], path: tuple[int, ...]
) -> float:
    weight = 1.0
    for depth, token in enumerate(path):
        row = rows[path[:depth]]
        total = sum(math.exp(row[child]) for child in trie.children[path[:depth]])
        weight *= math.exp(row[token]) / total
    return weight


def random_trie(generator: np.random.Generator) -> TemplateTrie:
    """Levels of up to four tokens out of three, after a stem of up to three, ended by a 9."""
    stem = tuple(generator.integers(3, 6, size=generator.integers(0, 4)).tolist())
    bodies = [
        body for length in range(1, 5) for body in itertools.product((0, 1, 2), repeat=length)
    ]
    count = int(generator.integers(1, 7))
    chosen = generator.choice(len(bodies), size=count, replace=False)
    return TemplateTrie(tuple((*stem, *bodies[i], 9) for i in chosen))
