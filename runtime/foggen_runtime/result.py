"""What an asked question comes back as: one schema for Python, JSON, the server and Kotlin."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 1

Source = Literal["local", "cloud", "queued", "none"]


@dataclass(frozen=True)
class Usage:
    """Tokens and forward passes spent; the engine counts its own passes."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    forward_passes: int = 0
    decoded_tokens: int = 0
    cloud_prompt_tokens: int | None = None
    cloud_completion_tokens: int | None = None


@dataclass(frozen=True)
class Timing:
    """Milliseconds by phase; a phase that did not happen is None.

    `decision` is the time to decision (TTD): from the question to local-or-cloud, and includes
    `tokenize` and `prefill`, the first forward pass.
    """

    tokenize: float | None = None
    prefill: float | None = None
    decision: float | None = None
    answer: float | None = None
    handoff: float | None = None
    total: float = 0.0


@dataclass(frozen=True)
class BundleRef:
    """Which bundle answered."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Result:
    """An answer with its provenance.

    Attributes:
        answer: The answer's text, without the template around it; None when there is none.
        choice: The option letter in `answer`, if it has one.
        source: Who answered.
        reason: Why that one: `confident`, `below_tau`, `malformed`, `context_length`, `mode`, or
            what went wrong with the cloud, e.g. `cloud_unreachable`.
        detail: A sentence on what went wrong, for people.
        confidence: The verbalized level; None when the output was malformed.
        level_probabilities: Probability of each level, in the template's order; None where the
            decoding did not visit every branch.
        expected_confidence: Probability-weighted mean of the levels.
        template_probability: Mass the model gave to the template's own continuations.
        tau: The threshold the confidence was compared with.
        tau_source: Where tau came from: `call`, `policy`, `calibration` or `default`.
        finish_reason: `stop`, `length`, or None without an answer.
        prefix_source: Where the KV cache of the prompt's constant prefix came from: the bundle's
            `snapshot`, `recomputed` by the bundle's own graph when it was opened, or `none`.
    """

    answer: str | None
    source: Source
    reason: str
    tau: float
    tau_source: str
    bundle: BundleRef
    choice: str | None = None
    detail: str | None = None
    confidence: float | None = None
    level_probabilities: tuple[float, ...] | None = None
    expected_confidence: float | None = None
    template_probability: float | None = None
    finish_reason: str | None = None
    prefix_source: str = "none"
    usage: Usage = field(default_factory=Usage)
    timing_ms: Timing = field(default_factory=Timing)
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON values, `schema_version` first."""
        document = dataclasses.asdict(self)
        return {"schema_version": document.pop("schema_version"), **document}
