"""Trying ways to use a device, one knob after the other, in fresh processes that take turns.

Of the candidates that are as fast as the best, within a tolerance, the most frugal one wins: fewer
threads, no spinning, no KleidiAI.
"""

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from foggen_runtime.model.cores import big_cores
from foggen_runtime.model.device import describe_device
from foggen_runtime.model.device_profile import (
    DEVICE_PROFILE_VERSION,
    Candidate,
    DeviceProfile,
    Trial,
    device_key,
)
from foggen_runtime.model.kernel_files import KernelFiles
from foggen_runtime.profiling.request import RoundRequest
from foggen_runtime.profiling.runner import Plan, run_round
from foggen_runtime.profiling.samples import Round
from foggen_runtime.profiling.schema import Settings

_KLEIDIAI_FEATURES = {"asimddp", "i8mm", "sme"}

Measure = Callable[[RoundRequest], Round]


@dataclass(frozen=True)
class Search:
    """How to tune.

    Attributes:
        rounds: Processes of each candidate.
        tolerance: How much slower than the best still counts as equally fast, e.g. 0.03.
        threads: Thread counts to try, in ascending order.
        kleidiai: Whether KleidiAI has kernels for this processor.
    """

    rounds: int
    tolerance: float
    threads: tuple[int, ...]
    kleidiai: bool

    @property
    def processes(self) -> int:
        """How many processes a whole search starts."""
        return self.rounds * (len(self.threads) + 2 + 2 * self.kleidiai)


def default_threads() -> tuple[int, ...]:
    """Return the thread counts worth trying: powers of two, the big cores, all processors."""
    processors = os.cpu_count() or 1
    powers = {2**power for power in range(processors.bit_length()) if 2**power <= processors}
    return tuple(sorted(powers | {untuned().threads or processors, processors}))


def untuned() -> Candidate:
    """Return how an untuned bundle runs here, with its number of threads."""
    return Candidate(min(big_cores(), os.cpu_count() or 1), spinning=True, kleidiai=True)


def uses_kleidiai(files: KernelFiles | None = None) -> bool:
    """Whether KleidiAI has kernels for this processor."""
    return bool(_KLEIDIAI_FEATURES & set(describe_device(files).features))


def tune(
    plan: Plan,
    search: Search,
    progress: Callable[[], None] = lambda: None,
    measure: Measure = run_round,
) -> DeviceProfile:
    """Search knob by knob.

    Args:
        plan: The bundle and the questions; its settings' knobs are overridden.
        search: What to try.
        progress: Called after each of `search.processes` processes.
        measure: Runs one process.

    Raises:
        EngineError: A process failed.
    """
    request = replace(plan.request(), settings=_lean(plan.settings))
    chosen = Candidate(threads=search.threads[-1], spinning=True, kleidiai=True)
    trials: list[Trial] = []

    def run(each: RoundRequest) -> Round:
        measured = measure(each)
        progress()
        return measured

    def choose(candidates: Sequence[Candidate]) -> Candidate:
        tried = _try(candidates, request, search.rounds, run)
        trials.extend(tried)
        return frugal(tried, search.tolerance)

    chosen = choose([replace(chosen, threads=count) for count in search.threads])
    chosen = choose([replace(chosen, spinning=flag) for flag in (False, True)])
    if search.kleidiai:
        chosen = choose([replace(chosen, kleidiai=flag) for flag in (False, True)])
    return DeviceProfile(
        schema_version=DEVICE_PROFILE_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        key=device_key(plan.bundle, plan.root),
        chosen=chosen,
        trials=tuple(trials),
    )


def gain(profile: DeviceProfile) -> float | None:
    """Return how many times as fast as untuned the choice is; None if that was not tried.

    The knobs' gains are multiplied, because only one knob's candidates took turns.
    """
    trials, usual = profile.trials, untuned()
    spinning = next(i for i, trial in enumerate(trials) if not trial.candidate.spinning)
    steps = {
        "threads": trials[:spinning],
        "spinning": trials[spinning : spinning + 2],
        "kleidiai": trials[spinning + 2 :],
    }
    gained = 1.0
    for knob, step in steps.items():
        times = {getattr(trial.candidate, knob): trial.decision_ms for trial in step}
        if not times:
            continue
        if getattr(usual, knob) not in times:
            return None
        gained *= times[getattr(usual, knob)] / times[getattr(profile.chosen, knob)]
    return gained


def frugal(trials: Sequence[Trial], tolerance: float) -> Candidate:
    """Return the first candidate within the tolerance of the best; frugal ones come first."""
    limit = min(trial.decision_ms for trial in trials) * (1 + tolerance)
    return next(trial.candidate for trial in trials if trial.decision_ms <= limit)


def _lean(settings: Settings) -> Settings:
    """Ask questions only."""
    return replace(settings, prompt_length=0, generated_length=0)


def rank(
    plans: Sequence[Plan],
    candidates: Sequence[Candidate],
    rounds: int,
    progress: Callable[[], None] = lambda: None,
    measure: Measure = run_round,
) -> list[float]:
    """Let bundles take turns, each with its own settings; return their times to decision (ms)."""

    def run(each: RoundRequest) -> Round:
        measured = measure(each)
        progress()
        return measured

    requests = [
        _as(candidate, replace(plan.request(), settings=_lean(plan.settings)))
        for plan, candidate in zip(plans, candidates, strict=True)
    ]
    return [_decision_ms(measured) for measured in _take_turns(requests, rounds, run)]


def _try(
    candidates: Sequence[Candidate], request: RoundRequest, rounds: int, measure: Measure
) -> list[Trial]:
    requests = [_as(candidate, request) for candidate in candidates]
    measured = _take_turns(requests, rounds, measure)
    reference = _confidences(measured[0][0])
    return [
        _trial(candidate, processes, reference)
        for candidate, processes in zip(candidates, measured, strict=True)
    ]


def _take_turns(
    requests: Sequence[RoundRequest], rounds: int, measure: Measure
) -> list[list[Round]]:
    """Measure A B C, B C A, ...: none always follows the same one."""
    measured: list[list[Round]] = [[] for _ in requests]
    for turn in range(rounds):
        for step in range(len(requests)):
            number = (turn + step) % len(requests)
            measured[number].append(measure(requests[number]))
    return measured


def _as(candidate: Candidate, request: RoundRequest) -> RoundRequest:
    settings = replace(
        request.settings,
        threads=candidate.threads,
        spinning=candidate.spinning,
        kleidiai=candidate.kleidiai,
    )
    return replace(request, settings=settings)


def _trial(
    candidate: Candidate, rounds: Sequence[Round], reference: Sequence[float | None]
) -> Trial:
    pairs = zip(reference, _confidences(rounds[0]), strict=True)
    changed = sum(one != other for one, other in pairs)
    return Trial(candidate, _decision_ms(rounds), _medians(rounds), changed)


def _decision_ms(rounds: Sequence[Round]) -> float:
    return statistics.median(_medians(rounds))


def _medians(rounds: Sequence[Round]) -> tuple[float, ...]:
    return tuple(
        statistics.median(sample.decision_ms or 0 for sample in measured.questions)
        for measured in rounds
    )


def _confidences(measured: Round) -> list[float | None]:
    return [sample.confidence for sample in measured.questions]
