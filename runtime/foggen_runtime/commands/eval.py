"""`foggen eval`: a bundle on labelled questions."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from foggen_runtime.commands.command_line import BundleType, Choice, Command, exit_codes
from foggen_runtime.commands.evaluation_options import (
    FILE,
    Outputs,
    on_option,
    output_options,
    prices_option,
)
from foggen_runtime.commands.options import (
    BundleArguments,
    CloudArguments,
    bundle_options,
    cloud_options,
    decoding_mode_option,
    take,
)
from foggen_runtime.commands.terminal import markdown_option, quiet_option, show_page

if TYPE_CHECKING:
    from foggen_runtime.bundle.manifest import ConfidenceKind
    from foggen_runtime.evaluation.routing import Prices
    from foggen_runtime.model.decoding import DecodingMode


@dataclass(frozen=True)
class Arguments:
    """The command line, as typed."""

    bundle: str
    data: Path
    tau: float | None
    on: "ConfidenceKind | None"
    prices: "Prices"
    records: Path | None
    skip_bad: bool
    workers: int
    executor: Literal["local", "ray"]
    mode: "DecodingMode"
    as_json: bool
    as_markdown: bool


@click.command("eval", cls=Command, epilog=exit_codes(0, 2, 3, 6, 7, 130))
@click.argument("bundle", type=BundleType())
@click.argument("data", type=FILE)
@click.option("--tau", type=float, help="Confidence below this goes to the cloud.  [bundle's]")
@on_option
@prices_option
@click.option("--records", type=FILE, help="Keep records there; go on with what it holds.")
@click.option("--skip-bad", is_flag=True, help="Leave out malformed lines, and say which.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes."
)
@click.option(
    "--executor",
    type=Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where workers run; ray needs the extra foggen[ray].",
)
@decoding_mode_option
@bundle_options
@cloud_options
@output_options
@click.option("--json", "as_json", is_flag=True, help="Print all figures as one JSON object.")
@markdown_option
@quiet_option
def eval_command(**options: Any) -> None:
    """Evaluate BUNDLE on DATA, labelled questions as JSON Lines.

    Every question is answered locally, whatever its confidence, so that records can be replayed at
    any tau. Where the data knows nothing of the cloud's answer and --cloud-url is given, the cloud
    is asked, too. An interrupted run is gone on with by the same command, given --records.

    \b
    Example:
      foggen eval foggen-int4 questions.jsonl --records int4.records.jsonl --html int4.html
    """
    from foggen_runtime.bundle.hub import locate_bundle
    from foggen_runtime.bundle.manifest import Manifest
    from foggen_runtime.commands.evaluation_run import Run, recorded
    from foggen_runtime.evaluation.pictures import Series
    from foggen_runtime.evaluation.summary import Threshold, summarize
    from foggen_runtime.evaluation.tables import heading, summary_tables
    from foggen_runtime.handoff.policy import check_tau
    from foggen_runtime.jsonio import dumps
    from foggen_runtime.model.decoding import Decoding
    from foggen_runtime.reports.pages import Page

    outputs = take(Outputs, options)
    bundle, cloud = take(BundleArguments, options), take(CloudArguments, options)
    arguments = Arguments(**options)
    outputs.check()
    check_tau(arguments.tau)
    directory = locate_bundle(arguments.bundle)
    routing = Manifest.load(directory).routing
    run = Run(
        directory,
        arguments.data,
        arguments.records,
        arguments.skip_bad,
        bundle.open_options(),
        Decoding(arguments.mode),
        arguments.workers,
        arguments.executor,
    )
    decisions = recorded(run, cloud)
    tau = routing.tau if arguments.tau is None else arguments.tau
    threshold = Threshold(tau, arguments.on or routing.on, arguments.prices)
    summary = summarize(decisions, threshold)
    page = Page(heading(decisions.header, summary), tuple(summary_tables(summary)))
    outputs.write(page, [Series(decisions.header.recipe, decisions, threshold)])
    if arguments.as_json:
        click.echo(dumps(summary))
    else:
        show_page(page, as_markdown=arguments.as_markdown)
