"""What follows from a decision: the question is kept or deferred, or the output was malformed."""

from dataclasses import dataclass
from typing import Literal

from foggen_runtime.bundle.manifest import ConfidenceKind, TemplateInfo
from foggen_runtime.decide.plain import Decision


@dataclass(frozen=True)
class Verdict:
    """What was judged, and why.

    Attributes:
        reason: `confident` keeps the question; `below_tau` and `malformed` defer it.
        confidence: The verbalized level; None when the output left the template.
        expected_confidence: Probability-weighted mean of the levels; None unless all are known.
        detail: A sentence for people, if there is more to say.
    """

    reason: Literal["confident", "below_tau", "malformed"]
    confidence: float | None
    expected_confidence: float | None
    detail: str | None = None


def judge(
    decision: Decision, template: TemplateInfo, tau: float, on: ConfidenceKind, *, forced: bool
) -> Verdict:
    """Compare a decision with a threshold.

    Args:
        decision: What the model wrote.
        template: Its levels.
        tau: The lowest confidence that keeps the question: equal is enough.
        on: Which confidence is compared: the `verbalized` one or the `expected` one.
        forced: Whether the decoder only let the model write a level. Such a level counts only if
            the template got enough of the probability; otherwise the model, left alone, would have
            written something else. A level that it wrote of its own accord always counts.
    """
    expected = _expected_confidence(decision, template)
    if decision.level is None:
        return Verdict("malformed", None, expected, "the output left the template")
    confidence = template.level_values[decision.level]
    probability = decision.reading.template_probability if decision.reading else None
    minimum = template.min_template_probability
    if forced and probability is not None and probability < minimum:
        detail = (
            f"template_probability {probability:.3g} is below the bundle's "
            f"minimum {minimum:g}: not a question for this model"
        )
        return Verdict("malformed", confidence, expected, detail)
    compared = expected if on == "expected" else confidence
    keeps = compared is not None and compared >= tau
    return Verdict("confident" if keeps else "below_tau", confidence, expected)


def _expected_confidence(decision: Decision, template: TemplateInfo) -> float | None:
    if decision.reading is None:
        return None
    pairs = zip(template.level_values, decision.reading.level_probabilities, strict=True)
    return sum(level * share for level, share in pairs)
