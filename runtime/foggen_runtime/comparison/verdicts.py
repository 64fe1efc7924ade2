"""What a bundle says to many questions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from foggen_runtime.ask.foggen import Foggen
from foggen_runtime.bundle.manifest import ConfidenceKind
from foggen_runtime.errors import EngineError
from foggen_runtime.result import Result
from foggen_runtime.text.questions import Question


@dataclass(frozen=True)
class Verdict:
    """What a bundle said to one question.

    Attributes:
        level: Index of the verbalized level; None when the output was malformed or the prompt too
            long, which defers whatever tau is.
        expected_confidence: Probability-weighted mean of the levels.
        answer: The local answer, if there is one.
        choice: The option letter in it, if it has one.
    """

    level: int | None
    expected_confidence: float | None = None
    answer: str | None = None
    choice: str | None = None

    @classmethod
    def of(cls, result: Result, level_values: Sequence[float]) -> Self:
        """Take what is compared from a result of the route `local_only`."""
        level = None
        if result.confidence is not None and result.reason != "malformed":
            level = level_values.index(result.confidence)
        return cls(level, result.expected_confidence, result.answer, result.choice)

    def agrees(self, other: Self) -> bool:
        """Whether the answers are the same: by letter, or by text where neither has one."""
        if self.choice or other.choice:
            return self.choice == other.choice
        return self.answer is not None and self.answer == other.answer


@dataclass(frozen=True)
class BundleFacts:
    """Which bundle was compared.

    Attributes:
        name: The model's.
        recipe: How it is quantized.
        sha256: The bundle's hash.
        tau_on: Which of its confidences tau is compared with: what it was calibrated on.
    """

    name: str
    recipe: str
    sha256: str
    tau_on: ConfidenceKind = "verbalized"


@dataclass(frozen=True)
class Answers:
    """One bundle's verdicts, in the order of the questions, and the levels they are of."""

    bundle: BundleFacts
    levels: tuple[str, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def confidences(self) -> tuple[float, ...]:
        """The verbalized confidence by question; malformed output is below every tau."""
        values = [float(level) for level in self.levels]
        return tuple(-math.inf if v.level is None else values[v.level] for v in self.verdicts)

    @property
    def compared(self) -> tuple[float, ...]:
        """By question, what tau is compared with; malformed output is below every tau."""
        if self.bundle.tau_on == "verbalized":
            return self.confidences
        return tuple(
            -math.inf if v.level is None else v.expected_confidence or 0.0 for v in self.verdicts
        )

    def only(self, indices: Sequence[int]) -> Self:
        """Return the answers to some of the questions."""
        return replace(self, verdicts=tuple(self.verdicts[i] for i in indices))


def answer_all(
    foggen: Foggen, questions: Sequence[Question], on_answer: Callable[[], object]
) -> Answers:
    """Ask a bundle every question, and have it answer here whatever its confidence.

    Args:
        foggen: The bundle.
        questions: What to ask.
        on_answer: Called after each question.

    Raises:
        EngineError: The model failed on a question.
    """
    manifest = foggen.model.bundle.manifest
    verdicts = []
    for number, question in enumerate(questions, start=1):
        result = foggen.ask(question.question, route="local_only")
        if result.reason == "local_error":
            raise EngineError(f"question {question.id or number}: {result.detail}")
        verdicts.append(Verdict.of(result, manifest.template.level_values))
        on_answer()
    facts = BundleFacts(
        manifest.model.name, manifest.quantization.recipe, manifest.sha256, manifest.routing.on
    )
    return Answers(facts, manifest.template.levels, tuple(verdicts))
