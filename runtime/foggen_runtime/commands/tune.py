"""`foggen tune`: the fastest way to run a bundle on this device, remembered beside it."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foggen_runtime.commands.command_line import BundleType, Command, exit_codes, interruptible
from foggen_runtime.commands.options import asking_options, launcher_option, rounds_option
from foggen_runtime.commands.outputs import json_option, markdown_option, show_page
from foggen_runtime.commands.terminal import (
    progress,
    quiet_option,
    warn,
)
from foggen_runtime.errors import ConfigError
from foggen_runtime.wording import counted

if TYPE_CHECKING:
    from foggen_runtime.bundle.bundle import Bundle
    from foggen_runtime.model.device_profile import DeviceProfile
    from foggen_runtime.profiling.runner import Plan
    from foggen_runtime.profiling.tuning import Search
    from foggen_runtime.reports.pages import Page

# With more processes than this waiting or running, a candidate may not get the processors it needs.
_BUSY = 0.5


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
    as_markdown: bool

    def search(self) -> "Search":
        """What to try."""
        from foggen_runtime.profiling.tuning import Search, uses_kleidiai

        return Search(self.rounds, self.tolerance, self._threads(), uses_kleidiai())

    def plan(self, bundle: "Bundle") -> "Plan":
        """How to ask."""
        from foggen_runtime.profiling.question_set import built_in_questions
        from foggen_runtime.profiling.runner import Plan
        from foggen_runtime.profiling.schema import Settings

        settings = Settings(
            rounds=self.rounds,
            questions=self.questions,
            warm_up=self.warm_up,
            prompt_length=0,
            generated_length=0,
            launcher=tuple(shlex.split(self.launcher)),
        )
        return Plan(bundle, settings, built_in_questions())

    def target(self, bundle: "Bundle") -> Path:
        """Where a bundle's device profile goes."""
        from foggen_runtime.bundle.manifest import DEVICE_PROFILE_FILE

        return self.output or bundle.path(DEVICE_PROFILE_FILE)

    def _threads(self) -> tuple[int, ...]:
        from foggen_runtime.profiling.tuning import default_threads

        if self.threads is None:
            return default_threads()
        try:
            counts = tuple(sorted({int(count) for count in self.threads.split(",")}))
        except ValueError:
            counts = ()
        if not counts or counts[0] < 1:
            raise ConfigError(f"threads: must be numbers such as 1,2,4, is {self.threads!r}")
        return counts


@click.command("tune", cls=Command, epilog=exit_codes(0, 2, 3, 7, 130))
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=BundleType())
@click.option("--threads", help="Thread counts to try, e.g. 1,2,4. [default: up to all processors]")
@rounds_option(3, "Fresh processes for each candidate.")
@asking_options
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.03,
    show_default=True,
    help="A candidate slower by at most this share counts as equally fast; of those, the most "
    "frugal wins.",
)
@launcher_option
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write there instead of to BUNDLE/device.json.",
)
@json_option("the device profiles as JSON")
@markdown_option
@quiet_option
def tune_command(**options: Any) -> None:
    """Find the fastest way to decide with BUNDLE on this device.

    Tries thread counts, then spinning, then KleidiAI if it suits the processor, each candidate in
    fresh processes that take turns. The result is written next to the bundle, and foggen uses it as
    long as the processor, onnxruntime and the bundle are the same. Several bundles are tuned one by
    one, then compared.

    KleidiAI gives slightly different numbers; the table says how many confidences change.

    \b
    Example:
      foggen tune foggen-int4
      foggen tune foggen-int4 foggen-int8
    """
    from foggen_runtime.bundle.bundle import Bundle
    from foggen_runtime.bundle.hub import locate_bundle
    from foggen_runtime.jsonio import dumps

    arguments = Arguments(**options)
    if arguments.output and len(arguments.bundles) > 1:
        raise ConfigError(
            "output: works for one bundle only; leave it out to write next to each of several"
        )
    bundles = [Bundle.open(locate_bundle(name)) for name in arguments.bundles]
    _warn_of_others()
    tuned: list[DeviceProfile] = []
    with interruptible(lambda: _kept(bundles, len(tuned), arguments)):
        tuned.extend(_tune(bundle, arguments) for bundle in bundles)
        if arguments.as_json:
            click.echo(dumps({"device_profiles": [profile.to_dict() for profile in tuned]}))
            return
        for bundle, profile in zip(bundles, tuned, strict=True):
            show_page(_page(bundle, profile, arguments), as_markdown=arguments.as_markdown)
        if len(bundles) > 1:
            ranking = _ranking(bundles, tuned, arguments)
            show_page(ranking, as_markdown=arguments.as_markdown)


def _warn_of_others() -> None:
    """Warn if other processes would disturb the measurement."""
    load = os.getloadavg()[0]
    if load > _BUSY:
        processors = counted(os.cpu_count() or 1, "processor")
        warn(
            f"this machine is busy: its load average is {load:.2f}, on {processors}. What is "
            "found now may not hold; tune again when it is idle"
        )


def _kept(bundles: "list[Bundle]", tuned: int, arguments: Arguments) -> str:
    """Say what was written before Ctrl-C."""
    written = ", ".join(str(arguments.target(bundle)) for bundle in bundles[:tuned])
    return f"{written} {'is' if tuned == 1 else 'are'} written" if tuned else "nothing was written"


def _tune(bundle: "Bundle", arguments: Arguments) -> "DeviceProfile":
    from foggen_runtime.profiling.tuning import tune

    search = arguments.search()
    with progress(search.processes, bundle.directory.name) as advance:
        profile = tune(arguments.plan(bundle), search, lambda: advance(1))
    profile.save(arguments.target(bundle))
    return profile


def _page(bundle: "Bundle", profile: "DeviceProfile", arguments: Arguments) -> "Page":
    from foggen_runtime.profiling.tuning import gain, untuned
    from foggen_runtime.reports.pages import Page, Section

    rows = tuple(
        (
            str(trial.candidate),
            f"{trial.decision_ms:.1f}",
            str(trial.changed_confidences),
        )
        for trial in profile.trials
    )
    head = ("candidate", "decision, ms", "confidences changed")
    ratio = gain(profile)
    gained = "It was not compared with the defaults"
    if ratio is not None:
        gained = f"{ratio:.2f} times as fast as the defaults"
    return Page(
        f"{bundle.directory.name}: {profile.chosen}",
        (Section("", head, rows),),
        finding=f"{gained} ({untuned()}).",
        details=f"Written to {arguments.target(bundle)}.",
    )


def _ranking(bundles: "list[Bundle]", tuned: "list[DeviceProfile]", arguments: Arguments) -> "Page":
    """Let the tuned bundles take turns, because they were not tuned at the same time."""
    from foggen_runtime.profiling.tuning import rank
    from foggen_runtime.reports.pages import Page, Section

    plans = [arguments.plan(bundle) for bundle in bundles]
    candidates = [profile.chosen for profile in tuned]
    with progress(len(bundles) * arguments.rounds, "together") as advance:
        times = rank(plans, candidates, arguments.rounds, lambda: advance(1))
    ranked = sorted(zip(times, bundles, strict=True), key=lambda pair: pair[0])
    rows = tuple(
        (bundle.directory.name, bundle.manifest.quantization.recipe, f"{time:.1f}")
        for time, bundle in ranked
    )
    return Page("Together", (Section("", ("bundle", "recipe", "decision, ms"), rows),))
