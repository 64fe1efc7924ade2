"""What a profile is made of: what each process measured.

Times are milliseconds (`_ms`), memory is bytes, frequencies MHz, temperatures degrees Celsius.
What could not be measured is null, never 0.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessPhases:
    """The life of one process in phases, one after the other except for the last three fields.

    Attributes:
        process_start: From the parent's request to the first line of foggen.
        imports: Importing onnxruntime, numpy and regex.
        load: Checking the files, opening the session and reading the tokenizer.
        prefix_restore: Restoring the prompt prefix's KV cache.
        warm_up: Asking the questions that do not count.
        questions: Asking those that do.
        streams: The repetitions of `ppN` and `tgN`.
        exit: From the last measurement to the process's end.
        wall: From the parent's request to the process's end.
        unaccounted: The part of `wall` that is in no phase.
        first_decision: From the parent's request to the first decision of a cold process.
    """

    process_start: float
    imports: float
    load: float
    prefix_restore: float
    warm_up: float
    questions: float
    streams: float
    exit: float
    wall: float
    unaccounted: float
    first_decision: float | None


@dataclass(frozen=True)
class QuestionSample:
    """One question; a phase that did not happen is null.

    Attributes:
        outcome: `local` when answered here, else `deferred`.
        reason: Why, e.g. `confident`, `below_tau` or `malformed`.
        confidence: The verbalized level; null when the output was malformed.
        decision_ms: Time to decision (TTD), tokenizing and prefill included.
        letter_ms: From the question to the first piece of the answer's text.
        answer_ms: From the decision to the answer's end.
        handoff_ms: The cloud's round trip.
    """

    outcome: str
    reason: str
    confidence: float | None
    prompt_tokens: int
    cached_prompt_tokens: int
    forward_passes: int
    tokenize_ms: float | None
    prefill_ms: float | None
    decision_ms: float | None
    letter_ms: float | None
    answer_ms: float | None
    handoff_ms: float | None
    total_ms: float


@dataclass(frozen=True)
class MemoryState:
    """A process's resident memory; the kernel can drop `file`, but not `anonymous`."""

    rss_bytes: int | None
    anonymous_bytes: int | None
    file_bytes: int | None
    pss_bytes: int | None
    swap_bytes: int | None


@dataclass(frozen=True)
class Memory:
    """Memory over a process's life: `steady` is after the questions, `peak` of the whole life."""

    loaded: MemoryState
    steady: MemoryState
    peak_after_questions_bytes: int | None
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class Reading:
    """One sensor's value, by the kernel's name for it."""

    name: str
    value: float


@dataclass(frozen=True)
class Battery:
    """A battery's charge in percent and what it is doing, e.g. `Discharging`."""

    name: str
    charge_percent: float | None
    status: str | None


@dataclass(frozen=True)
class Conditions:
    """The device at one moment; an empty list means that the kernel shows none.

    Attributes:
        frequencies_mhz: Of each processor now.
        governors: The frequency governors in use.
        temperatures_c: Of each thermal zone.
        throttling: Counters and states that rise when the device slows itself down.
        power_w: What power sensors show.
        batteries: Charge and state.
        load_average: Runnable tasks, mean of the last minute.
    """

    frequencies_mhz: tuple[Reading, ...] = ()
    governors: tuple[str, ...] = ()
    temperatures_c: tuple[Reading, ...] = ()
    throttling: tuple[Reading, ...] = ()
    power_w: tuple[Reading, ...] = ()
    batteries: tuple[Battery, ...] = ()
    load_average: float | None = None


@dataclass(frozen=True)
class Round:
    """One process.

    Attributes:
        prepared: Whether it opened a model that `foggen prepare` had written.
        streams: Tokens per second of each repetition, by llama-bench's names.
    """

    prepared: bool
    phases_ms: ProcessPhases
    questions: tuple[QuestionSample, ...]
    streams: dict[str, tuple[float, ...]]
    memory: Memory
    before: Conditions
    after: Conditions
