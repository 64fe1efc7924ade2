"""What a question comes back with: one schema for Python, JSON, the server and Kotlin."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from foggen_runtime.bundle.manifest import ConfidenceKind

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
class CloudRef:
    """Which cloud answered.

    Attributes:
        endpoint: The base of its URL.
        model: The model, as the server named it.
        attempts: Requests made until one was answered.
        request_id: The server's own id of the request.
    """

    endpoint: str | None
    model: str | None
    attempts: int
    request_id: str | None


@dataclass(frozen=True)
class Result:
    """An answer with its provenance.

    Attributes:
        id: Of this question; also its entry in the outbox and the idempotency key that the cloud
            gets.
        answer: The answer's text, without the template around it; None when there is none.
        choice: The option letter in `answer`, if it has one.
        source: Who answered; `queued` when the question waits in the outbox.
        reason: Why that one: `confident`, `below_tau`, `malformed`, `context_length`, `mode`, or
            what went wrong: here (`local_error`), with the cloud, e.g. `cloud_unreachable` (or
            `cloud_refused`: it replied, but would not answer), or before it was asked: `no_cloud`,
            `never_send`, `budget`, `budget_failed`, `outbox_full`, `outbox_failed`, `cancelled`.
        deferral: Why the question was not kept on the device, e.g. `below_tau`, whatever happened
            to it afterwards; None when it was kept.
        detail: A sentence on what went wrong, for people.
        confidence: The verbalized level; None when the output was malformed.
        level_probabilities: Probability of each level, in the template's order; None where the
            decoding did not visit every branch.
        expected_confidence: Probability-weighted mean of the levels.
        template_probability: Probability mass the model gave to the template's own continuations.
        tau: The threshold the confidence was compared with.
        tau_source: Where tau came from: `call`, `flag`, `policy`, `calibration` or `default`.
        tau_on: What it was compared with: the `verbalized` confidence or, where the bundle was
            calibrated so, the `expected` one.
        finish_reason: `stop`, `length`, or None without an answer.
        prefix_source: Where the KV cache of the prompt's constant prefix came from: the bundle's
            `snapshot`, `recomputed` by the bundle's own graph when it was opened, or `none`.
        cloud: Which cloud answered, if one did.
    """

    answer: str | None
    source: Source
    reason: str
    tau: float
    tau_source: str
    bundle: BundleRef
    id: str = ""
    deferral: str | None = None
    choice: str | None = None
    detail: str | None = None
    confidence: float | None = None
    level_probabilities: tuple[float, ...] | None = None
    expected_confidence: float | None = None
    template_probability: float | None = None
    finish_reason: str | None = None
    prefix_source: str = "none"
    tau_on: ConfidenceKind = "verbalized"
    cloud: CloudRef | None = None
    usage: Usage = field(default_factory=Usage)
    timing_ms: Timing = field(default_factory=Timing)
    schema_version: int = SCHEMA_VERSION

    @property
    def compared_confidence(self) -> float:
        """What tau is compared with; 0 where there is none."""
        expected = self.tau_on == "expected"
        return (self.expected_confidence if expected else self.confidence) or 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON values, `schema_version` first."""
        document = dataclasses.asdict(self)
        return {"schema_version": document.pop("schema_version"), **document}
