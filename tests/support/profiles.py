"""Profiles that nobody measured."""

from collections.abc import Sequence
from dataclasses import replace

from foggen_runtime.model.device import CoreGroup, Device
from foggen_runtime.profiling.samples import (
    Conditions,
    Memory,
    MemoryState,
    ProcessPhases,
    QuestionSample,
    Round,
)
from foggen_runtime.profiling.schema import (
    Profile,
    ProfiledBundle,
    Settings,
    Software,
)
from foggen_runtime.profiling.summary import summarize

_SAMPLE = QuestionSample(
    outcome="local",
    reason="confident",
    confidence=0.75,
    prompt_tokens=150,
    cached_prompt_tokens=80,
    forward_passes=3,
    tokenize_ms=0.5,
    prefill_ms=9.0,
    decision_ms=10.0,
    letter_ms=12.0,
    answer_ms=4.0,
    handoff_ms=None,
    total_ms=14.0,
)
_MEMORY = MemoryState(80_000_000, 40_000_000, 40_000_000, 70_000_000, 0)
_PHASES = ProcessPhases(50, 200, 100, 10, 30, 120, 80, 10, 610, 10, 400)


def make_sample(**fields: object) -> QuestionSample:
    """Return a local question with some fields set."""
    return replace(_SAMPLE, **fields)  # type: ignore[arg-type]


def make_round(questions: Sequence[QuestionSample] = (_SAMPLE,), rate: float = 100.0) -> Round:
    """Return a process that asked these questions and fed tokens at a rate."""
    return Round(
        prepared=False,
        phases_ms=_PHASES,
        questions=tuple(questions),
        streams={"pp128": (rate, rate), "tg64": (rate / 10, rate / 10)},
        memory=Memory(_MEMORY, _MEMORY, 80_000_000, 85_000_000),
        before=Conditions(),
        after=Conditions(),
    )


def make_profile(decisions: Sequence[float], rate: float = 100.0) -> Profile:
    """Return a profile with one process for each time to decision (ms)."""
    rounds = [make_round([make_sample(decision_ms=time)], rate) for time in decisions]
    return Profile(
        schema_version=1,
        created="2026-01-01T00:00:00+00:00",
        software=Software("0.1.0", "1.32.0"),
        bundle=ProfiledBundle("tiny", "int4", "ab" * 32, 3_000_000),
        device=Device(
            board=None,
            cores=(CoreGroup("Cortex-A76", 4),),
            architecture="aarch64",
            features=("asimddp",),
            memory_bytes=None,
            system=None,
            kernel=None,
            python="3.11.2",
        ),
        settings=Settings(rounds=len(rounds), questions=1),
        summary=summarize(rounds),
        operators={},
        rounds=tuple(rounds),
    )
