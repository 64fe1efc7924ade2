"""From the samples of all rounds to the figures that people read."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import fields

import numpy as np

from foggen_runtime.profiling.samples import ProcessPhases, QuestionSample, Round
from foggen_runtime.profiling.schema import Distribution, Outcome, Summary, Wasted

QUESTION_PHASES = ("tokenize", "prefill", "decision", "letter", "answer", "handoff", "total")
OUTCOMES = ("local", "deferred")


def distribution(values: Iterable[float | None]) -> Distribution | None:
    """Describe the values that are there; None when there are none."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    p50, p90, p99 = (float(value) for value in np.percentile(present, (50, 90, 99)))
    stddev = statistics.stdev(present) if len(present) > 1 else None
    return Distribution(len(present), p50, p90, p99, statistics.fmean(present), stddev)


def summarize(rounds: Sequence[Round]) -> Summary:
    """Summarize all rounds."""
    samples = [sample for measured in rounds for sample in measured.questions]
    memories = [measured.memory for measured in rounds]
    return Summary(
        process_ms=_described(
            (phase.name, (getattr(measured.phases_ms, phase.name) for measured in rounds))
            for phase in fields(ProcessPhases)
        ),
        questions_ms=_question_times(samples),
        outcomes={
            name: Outcome(len(group), _question_times(group))
            for name in OUTCOMES
            for group in [[sample for sample in samples if sample.outcome == name]]
        },
        wasted=_wasted(samples),
        tokens_per_second=_described(
            (name, [rate for measured in rounds for rate in measured.streams[name]])
            for name in rounds[0].streams
        ),
        peak_rss_bytes=_median(memory.peak_rss_bytes for memory in memories),
        steady_rss_bytes=_median(memory.steady.rss_bytes for memory in memories),
        steady_anonymous_bytes=_median(memory.steady.anonymous_bytes for memory in memories),
        steady_file_bytes=_median(memory.steady.file_bytes for memory in memories),
    )


def _question_times(samples: Sequence[QuestionSample]) -> dict[str, Distribution]:
    return _described(
        (phase, (getattr(sample, f"{phase}_ms") for sample in samples)) for phase in QUESTION_PHASES
    )


def _described(
    columns: Iterable[tuple[str, Iterable[float | None]]],
) -> dict[str, Distribution]:
    described = ((name, distribution(values)) for name, values in columns)
    return {name: figures for name, figures in described if figures}


def _wasted(samples: Sequence[QuestionSample]) -> Wasted | None:
    """Add up the local work on deferred questions; the handoff itself is not local."""
    deferred = [sample for sample in samples if sample.outcome == "deferred"]
    decisions = distribution(sample.decision_ms for sample in deferred)
    if decisions is None:
        return None
    local_times = [sample.total_ms - (sample.handoff_ms or 0) for sample in samples]
    spent = sum(sample.decision_ms or 0 for sample in deferred)
    return Wasted(
        decision_ms=decisions,
        share_of_local_time=spent / sum(local_times),
        forward_passes=statistics.fmean(sample.forward_passes for sample in deferred),
        fed_tokens=statistics.fmean(
            sample.prompt_tokens - sample.cached_prompt_tokens for sample in deferred
        ),
    )


def _median(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return statistics.median(present) if present else None
