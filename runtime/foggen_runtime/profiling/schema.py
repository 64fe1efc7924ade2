"""A profile: what `foggen profile --output` writes, field by field.

The dataclasses are the schema. Times are milliseconds (`_ms`) or seconds (`_s`), memory is bytes,
frequencies MHz, temperatures degrees Celsius. What could not be measured is null, never 0.
"""

from dataclasses import dataclass, field
from pathlib import Path

from foggen_runtime.errors import ConfigError
from foggen_runtime.jsonio import FieldError, from_json, parse_json
from foggen_runtime.model.device import Device
from foggen_runtime.profiling.samples import Round

PROFILE_VERSION = 1


@dataclass(frozen=True)
class Software:
    """Versions that decide speed."""

    foggen: str | None
    onnxruntime: str


@dataclass(frozen=True)
class ProfiledBundle:
    """Which bundle was measured; `bytes` is the size of its files."""

    name: str
    recipe: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Settings:
    """What was measured, and how.

    Attributes:
        rounds: Processes, one after the other.
        questions: Measured questions of each process.
        warm_up: Questions asked before them, not counted.
        cool_down_s: Pause before each process.
        question_source: `built-in`, `tokens` for prompts of a given length, or `file`.
        prompt_tokens: That length.
        route: `auto`, or `local_only` to answer here whatever the confidence.
        tau: Below this confidence a question is deferred; null is the bundle's.
        max_new_tokens: The most tokens after the confidence.
        threads: Worker threads; null is as many as there are big cores.
        spinning: Whether idle workers spin.
        kleidiai: Whether ARM's KleidiAI kernels are used.
        prompt_length: N of `ppN`, tokens fed at once to an empty cache.
        generated_length: N of `tgN`, tokens fed one by one to an empty cache.
        repetitions: Of both in each process, after one that does not count.
        launcher: Words put before the command of each process, e.g. `taskset -c 4-7`.
        cloud: Whether deferred questions were handed off.
        device_profile: When the device profile in use was made; null if none was used.
    """

    rounds: int = 5
    questions: int = 12
    warm_up: int = 2
    cool_down_s: float = 2.0
    question_source: str = "built-in"
    prompt_tokens: int | None = None
    route: str = "auto"
    tau: float | None = None
    max_new_tokens: int = 32
    threads: int | None = None
    spinning: bool = True
    kleidiai: bool = True
    prompt_length: int = 128
    generated_length: int = 64
    repetitions: int = 3
    launcher: tuple[str, ...] = ()
    cloud: bool = False
    device_profile: str | None = None


@dataclass(frozen=True)
class Distribution:
    """Percentiles (linear interpolation), mean and sample standard deviation of `count` values."""

    count: int
    p50: float
    p90: float
    p99: float
    mean: float
    stddev: float | None


@dataclass(frozen=True)
class Outcome:
    """The questions of one outcome, their times by phase."""

    count: int
    times_ms: dict[str, Distribution]


@dataclass(frozen=True)
class Wasted:
    """Local work on deferred questions, which a perfect router would have saved.

    Attributes:
        decision_ms: Time of their decisions.
        share_of_local_time: Of all time spent on this device, the share that went to them.
        forward_passes: Passes for each of them, the mean.
        fed_tokens: Prompt tokens fed for each of them beyond the cached prefix, the mean.
    """

    decision_ms: Distribution
    share_of_local_time: float
    forward_passes: float
    fed_tokens: float


@dataclass(frozen=True)
class OperatorTime:
    """One kind of operator in one pass: mean milliseconds, share of all operators, calls."""

    operator: str
    milliseconds: float
    share: float
    calls: float


@dataclass(frozen=True)
class PassOperators:
    """Where a kind of pass spends its time, from onnxruntime's trace, which slows it down.

    Attributes:
        passes: How many were traced.
        fed_tokens: Tokens fed by each, the mean.
        pass_ms: Mean of a whole pass by the trace's own `model_run`.
        operators: In descending order of time.
    """

    passes: int
    fed_tokens: float
    pass_ms: float
    operators: tuple[OperatorTime, ...]


@dataclass(frozen=True)
class Summary:
    """The rounds in figures.

    Attributes:
        process_ms: `ProcessPhases` over the processes.
        questions_ms: `tokenize`, `prefill`, `decision` (TTD), `letter`, `answer`, `handoff` and
            `total` over all questions.
        outcomes: The same for `local` and for `deferred` questions.
        wasted: Null when nothing was deferred.
        tokens_per_second: `pp128` and `tg64`, named after their lengths.
        peak_rss_bytes: Median over the processes, as are the others.
    """

    process_ms: dict[str, Distribution]
    questions_ms: dict[str, Distribution]
    outcomes: dict[str, Outcome]
    wasted: Wasted | None
    tokens_per_second: dict[str, Distribution]
    peak_rss_bytes: float | None
    steady_rss_bytes: float | None
    steady_anonymous_bytes: float | None
    steady_file_bytes: float | None


@dataclass(frozen=True)
class Profile:
    """One bundle on one device; `operators` has the passes `decision` and `token`."""

    schema_version: int
    created: str
    software: Software
    bundle: ProfiledBundle
    device: Device
    settings: Settings
    summary: Summary
    operators: dict[str, PassOperators]
    rounds: tuple[Round, ...] = field(default_factory=tuple)


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        ConfigError: It cannot be read, is of a newer version, or has a wrong field.
    """
    try:
        document = parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a profile: {error}") from error
    return parse_profile(document, str(path))


def parse_profile(document: object, where: str) -> Profile:
    """Check a parsed profile.

    Raises:
        ConfigError: It is of a newer version, or has a wrong field.
    """
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > PROFILE_VERSION:
        raise ConfigError(
            f"{where}: schema_version: this foggen reads up to {PROFILE_VERSION}, is {version}"
        )
    try:
        return from_json(Profile, document, where)
    except FieldError as error:
        raise ConfigError(str(error)) from error
