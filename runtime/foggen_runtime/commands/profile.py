"""`foggen profile`: where the time and the memory go, on the device it runs on."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foggen_runtime.commands.command_line import (
    BundleType,
    Choice,
    Command,
    exit_codes,
    interruptible,
)
from foggen_runtime.commands.options import API_KEY_VARIABLE
from foggen_runtime.commands.profile_compare import compare_command
from foggen_runtime.commands.profile_options import asking_options, launcher_option, rounds_option
from foggen_runtime.commands.terminal import markdown_option, progress, quiet_option, show_page
from foggen_runtime.errors import ConfigError

if TYPE_CHECKING:
    from foggen_runtime.bundle.bundle import Bundle
    from foggen_runtime.profiling.request import CloudAccess
    from foggen_runtime.profiling.runner import Plan
    from foggen_runtime.profiling.schema import Profile

_FILE = click.Path(dir_okay=False, path_type=Path)


class _WithCompare(Command):
    """`foggen profile compare A B` is a command of its own."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        if args[:1] == ["compare"]:
            return compare_command.make_context(f"{info_name} compare", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("profile", cls=_WithCompare, epilog=exit_codes(0, 2, 3, 7, 130))
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
    type=_FILE,
    help="Questions, JSON Lines with `question`.  [default: a built-in set]",
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(min=1),
    help="Pad each question so that its prompt has so many tokens.",
)
@click.option(
    "--tau",
    type=click.FloatRange(0, 1),
    help="Confidence below this defers.  [default: the bundle's]",
)
@click.option(
    "--route",
    type=Choice(["auto", "local_only"]),
    default="auto",
    show_default=True,
    help="local_only answers whatever the confidence.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Most tokens after the confidence.",
)
@click.option(
    "--pp",
    "prompt_length",
    type=click.IntRange(min=0),
    default=128,
    show_default=True,
    help="Tokens of llama-bench's prompt test; 0 leaves it out.",
)
@click.option(
    "--tg",
    "generated_length",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    help="Tokens of its generation test; 0 leaves it out.",
)
@click.option(
    "--repetitions",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Of both tests in each process.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Worker threads.  [default: as tuned, or the big cores]",
)
@click.option(
    "--spinning/--no-spinning",
    default=None,
    help="Let idle workers spin: faster, for more power.  [default: as tuned, or on]",
)
@click.option(
    "--kleidiai/--no-kleidiai",
    default=None,
    help="Let ARM use its KleidiAI kernels.  [default: as tuned, or on]",
)
@click.option("--cloud-url", help="Hand deferred questions off to this OpenAI-compatible server.")
@click.option("--cloud-model", help="The model's name on that server.")
@launcher_option
@click.option("--json", "as_json", is_flag=True, help="Print the profile as one JSON object.")
@click.option("--output", type=_FILE, help="Write the profile there as JSON.")
@click.option("--html", type=_FILE, help="Write one page with plots there.")
@click.option("--md", type=_FILE, help="Write the tables there as Markdown.")
@markdown_option
@quiet_option
def profile(**options: Any) -> None:
    """Measure BUNDLE, a directory or a hub id, on this device.

    Every round is a fresh process: it loads the bundle, asks questions, then feeds and generates
    tokens as llama-bench does. One more traces the operators. What the device does not show is
    reported as not available.

    `foggen profile compare A.json B.json` compares two profiles.

    \b
    Example:
      foggen profile foggen-int4 --output pi5.json --html pi5.html
    """
    from foggen_runtime.bundle.bundle import Bundle
    from foggen_runtime.bundle.hub import locate_bundle
    from foggen_runtime.commands.profile_outputs import Outputs
    from foggen_runtime.jsonio import dumps
    from foggen_runtime.profiling.page import page

    outputs = Outputs(options["output"], options["html"], options["md"])
    outputs.check()
    opened = Bundle.open(locate_bundle(options["bundle"]))
    with interruptible("nothing was measured to the end, nothing was written"):
        measured = _measure_here(_plan(opened, options))
    outputs.write(measured)
    if options["as_json"]:
        click.echo(dumps(measured))
    else:
        show_page(page(measured), as_markdown=options["as_markdown"])


def _measure_here(plan: "Plan") -> "Profile":
    from foggen_runtime.profiling.runner import profile_bundle

    with progress(plan.settings.rounds + 1, plan.bundle.directory.name) as advance:
        return profile_bundle(plan, lambda: advance(1))


def _plan(bundle: "Bundle", options: dict[str, Any]) -> "Plan":
    from foggen_runtime.profiling.question_set import built_in_questions
    from foggen_runtime.profiling.runner import Plan
    from foggen_runtime.profiling.schema import Settings
    from foggen_runtime.text.questions import read_questions

    data, prompt_tokens = options["data"], options["prompt_tokens"]
    questions = built_in_questions()
    if data:
        questions = tuple(question.question for question in read_questions(data))
    source = "file" if data else "built-in"
    cloud = _cloud(options["cloud_url"], options["cloud_model"])
    same = ("rounds", "questions", "warm_up", "cool_down_s", "prompt_tokens", "route", "tau")
    more = ("max_new_tokens", "prompt_length", "generated_length", "repetitions")
    settings = Settings(
        **{name: options[name] for name in (*same, *more)},
        **_knobs(bundle, options),
        question_source=source if prompt_tokens is None else "tokens",
        launcher=tuple(shlex.split(options["launcher"])),
        cloud=cloud is not None,
    )
    return Plan(bundle, settings, questions, cloud)


def _knobs(bundle: "Bundle", options: dict[str, Any]) -> dict[str, Any]:
    """Take what is not on the command line from the device profile."""
    from foggen_runtime.model.device_profile import Candidate, find_device_profile

    tuned = find_device_profile(bundle)
    chosen = tuned.chosen if tuned else Candidate(threads=None, spinning=True, kleidiai=True)
    knobs = {
        name: getattr(chosen, name) if options[name] is None else options[name]
        for name in ("threads", "spinning", "kleidiai")
    }
    return {**knobs, "device_profile": tuned.created if tuned else None}


def _cloud(url: str | None, model: str | None) -> "CloudAccess | None":
    from foggen_runtime.profiling.request import CloudAccess

    if bool(url) != bool(model):
        raise ConfigError("cloud: --cloud-url and --cloud-model go together, one is missing")
    if not url or not model:
        return None
    return CloudAccess(url, model, os.environ.get(API_KEY_VARIABLE) or None)
