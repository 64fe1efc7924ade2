"""What the parent tells a measuring process, and what comes back: JSON through pipes."""

from dataclasses import dataclass

from foggen_runtime.profiling.samples import Conditions, Memory, QuestionSample
from foggen_runtime.profiling.schema import PassOperators, Settings


@dataclass(frozen=True)
class CloudAccess:
    """Where deferred questions go."""

    url: str
    model: str
    api_key: str | None


@dataclass(frozen=True)
class RoundRequest:
    """What one process should do.

    Attributes:
        bundle: Its directory.
        questions: What to ask, the warm-up's questions first.
        settings: How to measure.
        cloud: Where to hand off; None to leave deferred questions unanswered.
        root: Where /proc and /sys are.
        trace: To trace operators instead of measuring times: the beginning of the trace's name.
    """

    bundle: str
    questions: tuple[str, ...]
    settings: Settings
    cloud: CloudAccess | None = None
    root: str = "/"
    trace: str | None = None


@dataclass(frozen=True)
class Moments:
    """Points in a process's life in their order, in seconds of the machine's monotonic clock."""

    begin: float
    imported: float
    ready: float
    opened: float
    loaded: float
    warm: float
    answered: float
    streaming: float
    streamed: float
    end: float


@dataclass(frozen=True)
class RoundReport:
    """What one process measured.

    Attributes:
        prepared: Whether a prepared model was opened.
        moments: When each phase began and ended.
        prefix_ms: Milliseconds that restoring the prompt prefix took, within opening.
        first_decision: When the first question was decided, as in `Moments`.
    """

    prepared: bool
    moments: Moments
    prefix_ms: float
    first_decision: float | None
    questions: tuple[QuestionSample, ...]
    streams: dict[str, tuple[float, ...]]
    memory: Memory
    before: Conditions
    after: Conditions


@dataclass(frozen=True)
class TraceReport:
    """What a tracing process found."""

    operators: dict[str, PassOperators]
