"""Answers of bundles that do not exist, and a comparison of two."""

from collections.abc import Sequence

from foggen_runtime.comparison.verdicts import Answers, BundleFacts, Verdict
from foggen_runtime.evaluation.comparison import Comparison, compare
from foggen_runtime.text.questions import Question

LEVELS = ("0.0", "0.5", "1.0")


def answers(
    recipe: str, levels: Sequence[int | None], letters: str = "", names: tuple[str, ...] = LEVELS
) -> Answers:
    """Return answers with these levels; letter `-` is no answer, and A where none is given."""
    letters = letters or "A" * len(levels)
    verdicts = tuple(
        Verdict(level, None if level is None else level / 2, *choice(letter))
        for level, letter in zip(levels, letters, strict=True)
    )
    return Answers(BundleFacts("tiny", recipe, recipe * 8), names, verdicts)


def choice(letter: str) -> tuple[str | None, str | None]:
    return (None, None) if letter == "-" else (f"{letter}) something", letter)


def with_flips(flips: int, total: int) -> Comparison:
    """Return a comparison in which so many of `total` decisions flip."""
    questions = [Question(f"Question {i}?") for i in range(total)]
    reference = answers("fp32", [2] * total)
    other = answers("int4", [0] * flips + [2] * (total - flips))
    return compare(questions, reference, other, tau=0.5)
