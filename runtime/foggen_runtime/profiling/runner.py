"""Running rounds, each in a fresh process, and putting the profile together."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.errors import EngineError
from foggen_runtime.jsonio import FieldError, dumps, from_json
from foggen_runtime.model.device import describe_device
from foggen_runtime.model.kernel_files import KernelFiles
from foggen_runtime.model.versions import installed_version, onnxruntime_version
from foggen_runtime.profiling.question_set import padded, repeated
from foggen_runtime.profiling.request import (
    CloudAccess,
    RoundReport,
    RoundRequest,
    TraceReport,
)
from foggen_runtime.profiling.samples import ProcessPhases, Round
from foggen_runtime.profiling.schema import (
    PROFILE_VERSION,
    PassOperators,
    Profile,
    ProfiledBundle,
    Settings,
    Software,
)
from foggen_runtime.profiling.summary import summarize
from foggen_runtime.text.tokenizer import QuestionTokenizer

T = TypeVar("T")

# The child looks for modules where this process does, however this one was started.
_CHILD = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from foggen_runtime.profiling.round import main; main()"
)


@dataclass(frozen=True)
class Plan:
    """What to profile.

    Attributes:
        bundle: The bundle, checked.
        settings: How to measure.
        questions: What to ask.
        cloud: Where to hand off, if anywhere.
        root: Where /proc and /sys are.
    """

    bundle: Bundle
    settings: Settings
    questions: tuple[str, ...]
    cloud: CloudAccess | None = None
    root: Path = Path("/")

    def request(self) -> RoundRequest:
        """The request for each process."""
        settings = self.settings
        questions = repeated(self.questions, settings.warm_up + settings.questions)
        if settings.prompt_tokens is not None:
            from foggen_runtime.model.local_model import tokenizer_file

            manifest, tokens = self.bundle.manifest, settings.prompt_tokens
            tokenizer = QuestionTokenizer.from_file(self.bundle.path(tokenizer_file(manifest)))
            prompt = manifest.prompt
            questions = tuple(
                padded(text, tokens, lambda text: len(tokenizer.prompt_ids(prompt, text)))
                for text in questions
            )
        return RoundRequest(
            str(self.bundle.directory), questions, settings, self.cloud, str(self.root)
        )


def profile_bundle(plan: Plan, progress: Callable[[], None] = lambda: None) -> Profile:
    """Run all rounds, then one more that traces the operators.

    Args:
        plan: What to profile.
        progress: Called after each of the `rounds + 1` processes.

    Raises:
        EngineError: A process failed.
    """
    request = plan.request()
    rounds = []
    for number in range(plan.settings.rounds):
        time.sleep(plan.settings.cool_down_s if number else 0)
        rounds.append(run_round(request))
        progress()
    operators = trace_operators(request)
    progress()
    return Profile(
        schema_version=PROFILE_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        software=Software(installed_version("foggen"), onnxruntime_version()),
        bundle=_bundle(plan.bundle),
        device=describe_device(KernelFiles(plan.root)),
        settings=plan.settings,
        summary=summarize(rounds),
        operators=operators,
        rounds=tuple(rounds),
    )


def run_round(request: RoundRequest) -> Round:
    """Measure in a fresh process.

    Raises:
        EngineError: The process failed.
    """
    spawned = time.monotonic()
    report = _run(request, RoundReport)
    ended = time.monotonic()
    return Round(
        prepared=report.prepared,
        phases_ms=_phases(report, spawned, ended),
        questions=report.questions,
        streams=report.streams,
        memory=report.memory,
        before=report.before,
        after=report.after,
    )


def trace_operators(request: RoundRequest) -> dict[str, PassOperators]:
    """Trace operators in a fresh process, into the request's directory or a temporary one.

    Raises:
        EngineError: The process failed.
    """
    with tempfile.TemporaryDirectory() as directory:
        trace = request.trace or f"{directory}/trace"
        return _run(replace(request, trace=trace), TraceReport).operators


def _run(request: RoundRequest, report: type[T]) -> T:
    command = [*request.settings.launcher, sys.executable, "-c", _CHILD, *sys.path]
    try:
        done = subprocess.run(
            command, input=dumps(request), capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise EngineError(f"round: cannot start {command[0]}: {error}") from error
    if done.returncode:
        said = done.stderr.strip()[-500:] or f"exit status {done.returncode}"
        raise EngineError(f"round: the measuring process failed: {said}")
    try:
        return from_json(report, json.loads(done.stdout.splitlines()[-1]), "report")
    except (IndexError, ValueError, FieldError) as error:
        raise EngineError(f"round: the measuring process printed no report: {error}") from error


def _phases(report: RoundReport, spawned: float, ended: float) -> ProcessPhases:
    moments = report.moments
    seconds = {
        "process_start": moments.begin - spawned,
        "imports": moments.imported - moments.begin,
        "load": moments.opened - moments.ready - report.prefix_ms / 1e3,
        "prefix_restore": report.prefix_ms / 1e3,
        "warm_up": moments.warm - moments.loaded,
        "questions": moments.answered - moments.warm,
        "streams": moments.streamed - moments.streaming,
        "exit": ended - moments.end,
    }
    wall, first = ended - spawned, report.first_decision
    return ProcessPhases(
        **{name: 1e3 * value for name, value in seconds.items()},
        wall=1e3 * wall,
        unaccounted=1e3 * (wall - sum(seconds.values())),
        first_decision=None if first is None else 1e3 * (first - spawned),
    )


def _bundle(bundle: Bundle) -> ProfiledBundle:
    manifest = bundle.manifest
    size = sum(info.bytes for info in manifest.files.values())
    return ProfiledBundle(manifest.model.name, manifest.quantization.recipe, manifest.sha256, size)
