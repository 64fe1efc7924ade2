"""`foggen profile`: where time and memory go on this device, and whether that has changed."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from foggen_runtime.commands.command_line import (
    FILE,
    BundleType,
    Choice,
    Group,
    exit_codes,
    interruptible,
)
from foggen_runtime.commands.options import (
    API_KEY_VARIABLE,
    EndpointArguments,
    EngineArguments,
    asking_options,
    endpoint_options,
    engine_options,
    launcher_option,
    max_new_tokens_option,
    rounds_option,
    take,
    tau_option,
)
from foggen_runtime.commands.outputs import (
    check_files,
    json_option,
    markdown_option,
    md_option,
    show_page,
    write_files,
)
from foggen_runtime.commands.terminal import progress, quiet_option
from foggen_runtime.errors import ConfigError

if TYPE_CHECKING:
    from foggen_runtime.bundle.bundle import Bundle
    from foggen_runtime.profiling.difference import Difference
    from foggen_runtime.profiling.runner import Plan
    from foggen_runtime.profiling.schema import Profile

EXIT_SLOWER = 1


class _RunByDefault(Group):
    """`foggen profile BUNDLE` is `foggen profile run BUNDLE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the command if it was left out."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete bundles as well as commands."""
        return [*super().shell_complete(ctx, incomplete), CompletionItem(incomplete, type="dir")]


@click.group(cls=_RunByDefault)
def profile() -> None:
    """Measure a bundle on this device, or compare two such profiles.

    `foggen profile BUNDLE` is short for `foggen profile run BUNDLE`.

    \b
    Example:
      foggen profile foggen-int4 --output pi5.json --html pi5.html
      foggen profile compare before.json after.json --max-slowdown 1.1
    """


@dataclass(frozen=True)
class Arguments:
    """What `run` should measure and where the result goes; `Settings` says how."""

    bundle: str
    data: Path | None
    output: Path | None
    html: Path | None
    md: Path | None
    as_json: bool
    as_markdown: bool


@profile.command(epilog=exit_codes(0, 2, 3, 7, 130))
@click.argument("bundle", type=BundleType())
@rounds_option(5, "Fresh processes, one after the other.")
@asking_options
@click.option(
    "--cool-down",
    "cool_down_s",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    help="Seconds to rest between processes.",
)
@click.option(
    "--data",
    type=FILE,
    help="Questions as JSON Lines with `question`. [default: a built-in set]",
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(min=1),
    help="Pad each question until its prompt has this many tokens.",
)
@tau_option("the bundle's")
@click.option(
    "--route",
    type=Choice(["auto", "local_only"]),
    default="auto",
    show_default=True,
    help="local_only answers here whatever the confidence.",
)
@max_new_tokens_option(32)
@click.option(
    "--pp",
    "prompt_length",
    type=click.IntRange(min=0),
    default=128,
    show_default=True,
    help="Tokens in llama-bench's prompt test; 0 skips it.",
)
@click.option(
    "--tg",
    "generated_length",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    help="Tokens in its generation test; 0 skips it.",
)
@click.option(
    "--repetitions",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Repetitions of both tests in each process.",
)
@engine_options()
@endpoint_options
@launcher_option
@json_option("the profile as one JSON object")
@click.option("--output", type=FILE, help="Write the profile there as JSON.")
@click.option("--html", type=FILE, help="Write an HTML page with plots there.")
@md_option
@markdown_option
@quiet_option
def run(**options: Any) -> None:
    """Measure BUNDLE (a directory or a hub id) on this device.

    Every round is a fresh process that loads the bundle, asks questions, then feeds and generates
    tokens as llama-bench does. A last process traces the operators. With --cloud-url, deferred
    questions are handed off. What the device does not reveal is reported as not available.

    \b
    Example:
      foggen profile run foggen-int4 --output pi5.json --html pi5.html
    """
    from foggen_runtime.bundle.bundle import Bundle
    from foggen_runtime.bundle.hub import locate_bundle
    from foggen_runtime.jsonio import dumps
    from foggen_runtime.profiling.page import html, page
    from foggen_runtime.reports.pages import markdown

    arguments = take(Arguments, options)
    check_files({"output": arguments.output, "html": arguments.html, "md": arguments.md})
    bundle = Bundle.open(locate_bundle(arguments.bundle))
    with interruptible("the measurement is not complete, nothing was written"):
        measured = _measure(_plan(bundle, arguments.data, options))
    write_files(
        (
            (arguments.output, lambda: dumps(measured, indent=1) + "\n"),
            (arguments.html, lambda: html(measured)),
            (arguments.md, lambda: markdown(page(measured))),
        )
    )
    if arguments.as_json:
        click.echo(dumps(measured))
    else:
        show_page(page(measured), as_markdown=arguments.as_markdown)


def _measure(plan: "Plan") -> "Profile":
    from foggen_runtime.profiling.runner import profile_bundle

    with progress(plan.settings.rounds + 1, plan.bundle.directory.name) as advance:
        return profile_bundle(plan, lambda: advance(1))


def _plan(bundle: "Bundle", data: Path | None, options: dict[str, Any]) -> "Plan":
    """Check what was typed, and take the rest from the device profile."""
    from foggen_runtime.handoff.policy import check_tau
    from foggen_runtime.model.decoding import Decoding
    from foggen_runtime.model.device_profile import Candidate, find_device_profile
    from foggen_runtime.profiling.question_set import built_in_questions
    from foggen_runtime.profiling.request import CloudAccess
    from foggen_runtime.profiling.runner import Plan
    from foggen_runtime.profiling.schema import Settings
    from foggen_runtime.text.questions import read_questions

    engine, endpoint = take(EngineArguments, options), take(EndpointArguments, options)
    engine.engine()
    check_tau(options["tau"])
    Decoding(max_new_tokens=options["max_new_tokens"])
    questions, source = built_in_questions(), "built-in"
    if data:
        questions = tuple(asked.question for asked in read_questions(data).questions)
        source = "file"
    named = endpoint.endpoint()
    tuned = find_device_profile(bundle)
    chosen = tuned.chosen if tuned else Candidate(threads=None, spinning=True, kleidiai=True)
    settings = Settings(
        question_source=source if options["prompt_tokens"] is None else "tokens",
        threads=chosen.threads if engine.threads is None else engine.threads,
        spinning=chosen.spinning if engine.spinning is None else engine.spinning,
        kleidiai=chosen.kleidiai if engine.kleidiai is None else engine.kleidiai,
        launcher=tuple(shlex.split(options.pop("launcher"))),
        cloud=named is not None,
        device_profile=tuned.created if tuned else None,
        **options,
    )
    cloud = CloudAccess(*named, os.environ.get(API_KEY_VARIABLE) or None) if named else None
    return Plan(bundle, settings, questions, cloud)


_SLOWER_EPILOG = exit_codes(
    2,
    special={
        0: "not slower than allowed, or nothing shows that it is",
        EXIT_SLOWER: "slower than --max-slowdown, with 95 % confidence",
    },
)


@profile.command(epilog=_SLOWER_EPILOG)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--max-slowdown",
    type=click.FloatRange(min=0, min_open=True),
    help="Exit with 1 if B is slower than A by more than this factor, with 95 % confidence.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    default=("decision",),
    show_default=True,
    help="What --max-slowdown applies to, e.g. letter, pp128, peak_rss; may be repeated.",
)
@json_option("all figures as one JSON object")
@markdown_option
@click.pass_context
def compare(
    ctx: click.Context,
    a: Path,
    b: Path,
    max_slowdown: float | None,
    metrics: tuple[str, ...],
    *,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Compare profile B with profile A, the reference.

    A metric is called slower or faster when its 95 % interval lies on one side of 1.

    \b
    Example:
      foggen profile compare before.json after.json --max-slowdown 1.1
    """
    from foggen_runtime.jsonio import dumps
    from foggen_runtime.profiling.difference import difference, page
    from foggen_runtime.profiling.schema import read_profile

    found = difference(read_profile(a), read_profile(b))
    if as_json:
        click.echo(dumps(found))
    else:
        show_page(page(found), as_markdown=as_markdown)
    if max_slowdown is not None:
        exceeded = [metric for metric in metrics if _exceeds(found, metric, max_slowdown)]
        for metric in exceeded:
            click.echo(f"{metric}: slower than {max_slowdown:g} times A", err=True)
        ctx.exit(EXIT_SLOWER if exceeded else 0)


def _exceeds(found: "Difference", metric: str, limit: float) -> bool:
    """Whether even the lower end of the interval is above the limit.

    Raises:
        ConfigError: The profiles do not both have the metric, from two processes or more.
    """
    change = found.change(metric)
    if change is None:
        known = ", ".join(change.metric for change in found.changes)
        raise ConfigError(f"metric: must be in both profiles, which have {known}; is {metric!r}")
    if change.low is None:
        raise ConfigError(
            f"metric: {metric} must come from at least 2 processes on each side to be judged"
        )
    return change.low > limit
