"""Evaluations of bundles that do not exist, and a comparison of two."""

from collections.abc import Sequence

from foggen_runtime.evaluation.answering import BundleFacts, Evaluation
from foggen_runtime.evaluation.comparison import Comparison, compare
from foggen_runtime.evaluation.records import Record, Tokens

LEVELS = ("0.0", "0.5", "1.0")


def record(
    level: float | None,
    letter: str | None = "A",
    right: str | None = None,
    domain: str | None = None,
) -> Record:
    """Return a record of this confidence, answer letter, right letter and domain."""
    return Record(
        id="",
        domain=domain,
        answer=right,
        local_answer=letter and f"{letter}) something",
        local_choice=letter,
        local_correct=None if right is None else letter == right,
        cloud_answer=None,
        cloud_correct=None,
        confidence=level,
        expected_confidence=level,
        level_probabilities=None,
        tokens=Tokens(100, 10),
    )


def answers(
    recipe: str,
    levels: Sequence[int | None],
    letters: str = "",
    known: Sequence[tuple[str | None, str | None]] = (),
) -> Evaluation:
    """Return an evaluation with these levels.

    Args:
        recipe: How the bundle is called.
        levels: The level's index by question; None for malformed output.
        letters: The answers; `-` is none, and A where none is given.
        known: The right letter and the domain by question.
    """
    records = [
        record(None if level is None else level / 2, None if letter == "-" else letter, *facts)
        for level, letter, facts in zip(
            levels,
            letters or "A" * len(levels),
            known or [(None, None)] * len(levels),
            strict=True,
        )
    ]
    return Evaluation(BundleFacts("tiny", recipe, recipe * 8), LEVELS, tuple(records))


def with_flips(flips: int, total: int) -> Comparison:
    """Return a comparison in which so many of `total` decisions flip."""
    reference = answers("fp32", [2] * total)
    other = answers("int4", [0] * flips + [2] * (total - flips))
    return compare(reference, other, tau=0.5)
