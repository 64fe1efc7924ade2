"""`foggen tune`: the fastest way to run a bundle on this device, remembered beside it."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from foggen_runtime.bundle import Bundle
from foggen_runtime.commands.profile_options import asking_options, launcher_option, rounds_option
from foggen_runtime.errors import ConfigError
from foggen_runtime.hub import locate_bundle
from foggen_runtime.jsonio import dumps
from foggen_runtime.manifest import DEVICE_PROFILE_FILE
from foggen_runtime.markdown import table
from foggen_runtime.profiling.device_profile import DeviceProfile
from foggen_runtime.profiling.question_set import built_in_questions
from foggen_runtime.profiling.runner import Plan
from foggen_runtime.profiling.schema import Settings
from foggen_runtime.profiling.tuning import (
    Search,
    default_threads,
    rank,
    tune,
    uses_kleidiai,
)


@dataclass(frozen=True)
class Arguments:
    """The command line, as typed."""

    bundles: tuple[str, ...]
    threads: str | None
    rounds: int
    questions: int
    warm_up: int
    tolerance: float
    launcher: str
    output: Path | None
    as_json: bool

    def search(self) -> Search:
        """What to try."""
        return Search(self.rounds, self.tolerance, self._threads(), uses_kleidiai())

    def plan(self, bundle: Bundle) -> Plan:
        """How to ask."""
        settings = Settings(
            rounds=self.rounds,
            questions=self.questions,
            warm_up=self.warm_up,
            prompt_length=0,
            generated_length=0,
            launcher=tuple(shlex.split(self.launcher)),
        )
        return Plan(bundle, settings, built_in_questions())

    def _threads(self) -> tuple[int, ...]:
        if self.threads is None:
            return default_threads()
        try:
            counts = tuple(sorted({int(count) for count in self.threads.split(",")}))
        except ValueError:
            counts = ()
        if not counts or counts[0] < 1:
            raise ConfigError(f"threads: must be numbers such as 1,2,4, is {self.threads!r}")
        return counts


@click.command("tune")
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True)
@click.option("--threads", help="Thread counts to try, e.g. 1,2,4.  [default: up to all]")
@rounds_option(3, "Fresh processes of each candidate.")
@asking_options
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.03,
    show_default=True,
    help="Slower by no more than this counts as as fast; of those the most frugal wins.",
)
@launcher_option
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Write there instead of BUNDLE/{DEVICE_PROFILE_FILE}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the device profiles as JSON.")
def tune_command(**options: Any) -> None:
    """Find the fastest way to decide with BUNDLE on this device.

    Tries thread counts, then spinning, then KleidiAI where the processor has use for it, each
    candidate in fresh processes that take turns. The result is written beside the bundle, and
    foggen follows it wherever processor, onnxruntime and bundle are the same. Several bundles are
    tuned one by one, then compared.

    KleidiAI computes other numbers; the table says how many confidences change.

    \b
    Example:
      foggen tune foggen-int4
      foggen tune foggen-int4 foggen-int8
    """
    arguments = Arguments(**options)
    if arguments.output and len(arguments.bundles) > 1:
        raise ConfigError("output: is for one bundle; several are written beside each")
    bundles = [Bundle.open(locate_bundle(name)) for name in arguments.bundles]
    tuned = [_tune(bundle, arguments) for bundle in bundles]
    if arguments.as_json:
        click.echo(dumps({"device_profiles": [profile.to_dict() for profile in tuned]}))
        return
    for bundle, profile in zip(bundles, tuned, strict=True):
        click.echo(_page(bundle, profile))
    if len(bundles) > 1:
        click.echo(_ranking(bundles, tuned, arguments))


def _tune(bundle: Bundle, arguments: Arguments) -> DeviceProfile:
    search = arguments.search()
    with click.progressbar(
        length=search.processes, label=bundle.directory.name, file=sys.stderr
    ) as bar:
        profile = tune(arguments.plan(bundle), search, lambda: bar.update(1))
    profile.save(arguments.output or bundle.path(DEVICE_PROFILE_FILE))
    return profile


def _page(bundle: Bundle, profile: DeviceProfile) -> str:
    rows = [
        (
            str(trial.candidate),
            f"{trial.decision_ms:.1f}",
            str(trial.changed_confidences),
        )
        for trial in profile.trials
    ]
    head = ("candidate", "decision, ms", "confidences changed")
    return f"# {bundle.directory.name}: {profile.chosen}\n\n{table(head, rows)}\n"


def _ranking(bundles: list[Bundle], tuned: list[DeviceProfile], arguments: Arguments) -> str:
    """Let the tuned bundles take turns, for their own trials were not at the same time."""
    plans = [arguments.plan(bundle) for bundle in bundles]
    candidates = [profile.chosen for profile in tuned]
    with click.progressbar(
        length=len(bundles) * arguments.rounds, label="together", file=sys.stderr
    ) as bar:
        times = rank(plans, candidates, arguments.rounds, lambda: bar.update(1))
    ranked = sorted(zip(times, bundles, strict=True), key=lambda pair: pair[0])
    rows = [
        (bundle.directory.name, bundle.manifest.quantization.recipe, f"{time:.1f}")
        for time, bundle in ranked
    ]
    return "# Together\n\n" + table(("bundle", "recipe", "decision, ms"), rows)
