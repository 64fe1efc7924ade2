"""`foggen compare`: how far two bundles' decisions agree."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foggen_runtime.commands.command_line import BundleType, Command, exit_codes, interruptible
from foggen_runtime.commands.options import tau_option
from foggen_runtime.commands.outputs import (
    check_files,
    json_option,
    markdown_option,
    md_option,
    picture_kind,
    picture_option,
    show_page,
    write_files,
)
from foggen_runtime.commands.terminal import progress, quiet_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foggen_runtime.evaluation.answering import Evaluation
    from foggen_runtime.evaluation.comparison import Comparison
    from foggen_runtime.model.local_model import OpenOptions
    from foggen_runtime.text.questions import Question


@dataclass(frozen=True)
class Arguments:
    """The command line, as typed."""

    reference: str
    other: str
    data: Path | None
    tau: float | None
    limit: int | None
    threads: int | None
    md: Path | None
    picture: Path | None
    as_json: bool
    as_markdown: bool


@click.command("compare", cls=Command, epilog=exit_codes(0, 2, 3, 7, 130))
@click.argument("reference", metavar="A", type=BundleType())
@click.argument("other", metavar="B", type=BundleType())
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Questions as JSON Lines, with domain and answer if known.  [default: a built-in set]",
)
@tau_option("A's")
@click.option("--limit", type=click.IntRange(min=1), help="Ask only the first this many questions.")
@click.option("--threads", type=int, help="Worker threads.  [default: the big cores]")
@json_option("all figures as one JSON object")
@md_option
@picture_option
@markdown_option
@quiet_option
def compare_command(**options: Any) -> None:
    """Compare the decisions of bundle B with those of A, the reference.

    Both are directories or hub ids. Each answers every question locally, whatever its confidence;
    nothing goes to a cloud. Tau is compared with the confidence that each bundle was calibrated on.

    \b
    Example:
      foggen compare foggen-fp32 foggen-int4
      foggen compare foggen-fp32 foggen-int4 --data questions.jsonl --picture flips.svg
    """
    from foggen_runtime.evaluation.comparison_page import page, picture
    from foggen_runtime.jsonio import dumps
    from foggen_runtime.reports.pages import markdown

    arguments = Arguments(**options)
    check_files({"md": arguments.md, "picture": arguments.picture})
    kind = picture_kind(arguments.picture)
    with interruptible("no answers are kept, nothing was written"):
        comparison = _compare(arguments)
    report = page(comparison)
    write_files(
        (
            (arguments.md, lambda: markdown(report)),
            (arguments.picture, lambda: picture(comparison, kind)),
        )
    )
    if arguments.as_json:
        click.echo(dumps(comparison.to_dict()))
    else:
        show_page(report, as_markdown=arguments.as_markdown)


def _compare(arguments: Arguments) -> "Comparison":
    from foggen_runtime.bundle.hub import locate_bundle
    from foggen_runtime.bundle.manifest import Manifest
    from foggen_runtime.evaluation.comparison import check_comparable, compare
    from foggen_runtime.model.engine import EngineOptions
    from foggen_runtime.model.local_model import OpenOptions
    from foggen_runtime.text.questions import judging_questions, read_questions

    data = arguments.data
    questions = (read_questions(data).questions if data else judging_questions())[: arguments.limit]
    directories = [locate_bundle(name) for name in (arguments.reference, arguments.other)]
    first, second = (Manifest.load(directory) for directory in directories)
    tau = first.routing.tau if arguments.tau is None else arguments.tau
    check_comparable(first.template.levels, second.template.levels, tau)
    options = OpenOptions(EngineOptions(threads=arguments.threads, spinning=False))
    reference, other = (_evaluate(directory, questions, options) for directory in directories)
    return compare(reference, other, tau)


def _evaluate(
    directory: Path, questions: "Sequence[Question]", options: "OpenOptions"
) -> "Evaluation":
    """Ask one bundle, then close it: two open engines would slow each other down."""
    from foggen_runtime.ask.foggen import Foggen
    from foggen_runtime.evaluation.answering import evaluate

    with (
        Foggen.open(directory, options=options) as foggen,
        progress(len(questions), directory.name) as advance,
    ):
        return evaluate(foggen, questions, lambda: advance(1))
