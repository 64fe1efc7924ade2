"""`foggen eval`: a bundle on labelled questions."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from foggen_runtime.commands.command_line import (
    FILE,
    BundleType,
    Choice,
    Command,
    Decorated,
    exit_codes,
    interruptible,
)
from foggen_runtime.commands.options import (
    BundleArguments,
    CloudArguments,
    bundle_options,
    cloud_options,
    decoding_mode_option,
    on_option,
    prices_option,
    take,
    tau_option,
)
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
from foggen_runtime.commands.terminal import note, progress, quiet_option, warn
from foggen_runtime.wording import counted

if TYPE_CHECKING:
    from foggen_runtime.bundle.manifest import ConfidenceKind
    from foggen_runtime.cloud.endpoints import Cloud
    from foggen_runtime.evaluation.decisions import Decisions
    from foggen_runtime.evaluation.pictures import Series
    from foggen_runtime.evaluation.records import RecordWriter
    from foggen_runtime.evaluation.routing import Prices
    from foggen_runtime.evaluation.running import CloudClient, Run
    from foggen_runtime.model.decoding import DecodingMode
    from foggen_runtime.reports.pages import Page
    from foggen_runtime.text.questions import QuestionFile


@dataclass(frozen=True)
class Outputs:
    """Where to write a report on records, besides the terminal."""

    html: Path | None
    md: Path | None
    picture: Path | None

    def check(self) -> None:
        """Refuse files now that could not be written at the end.

        Raises:
            ConfigError: A directory or matplotlib is missing, or the picture's kind is unknown.
        """
        check_files({"html": self.html, "md": self.md, "picture": self.picture})
        picture_kind(self.picture)
        if self.html:
            from foggen_runtime.reports.drawing import require_matplotlib

            require_matplotlib()

    def write(self, page: "Page", series: "Sequence[Series]") -> None:
        """Write the files asked for.

        Raises:
            ConfigError: One cannot be written.
        """
        from foggen_runtime.evaluation.pictures import picture
        from foggen_runtime.reports.html_page import Figure, html_page
        from foggen_runtime.reports.pages import markdown

        write_files(
            (
                (self.md, lambda: markdown(page)),
                (self.html, lambda: html_page(page, [Figure(picture(series, "svg").decode())])),
                (self.picture, lambda: picture(series, picture_kind(self.picture))),
            )
        )


def output_options(command: Decorated) -> Decorated:
    """Add the options of `Outputs`."""
    html = click.option(
        "--html",
        type=FILE,
        help="Write one HTML page with pictures. Needs the extra foggen[report].",
    )
    return html(md_option(picture_option(command)))


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
@tau_option("the bundle's")
@on_option
@prices_option
@click.option("--records", type=FILE, help="Keep records there, and continue what is there.")
@click.option("--skip-bad", is_flag=True, help="Skip malformed lines, and say which.")
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
@json_option("all figures as one JSON object")
@markdown_option
@quiet_option
def eval_command(**options: Any) -> None:
    """Evaluate BUNDLE on DATA, labelled questions as JSON Lines.

    Every question is answered locally, whatever its confidence, so that the records can be replayed
    at any tau. With --cloud-url, the cloud is asked as well wherever DATA does not have its answer.
    With --records, run the same command again to continue an interrupted run.

    \b
    Example:
      foggen eval foggen-int4 questions.jsonl --records int4.records.jsonl --html int4.html
    """
    from foggen_runtime.bundle.hub import locate_bundle
    from foggen_runtime.bundle.manifest import Manifest
    from foggen_runtime.evaluation.pictures import Series
    from foggen_runtime.evaluation.running import Run
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


def recorded(run: "Run", cloud: CloudArguments | None = None) -> "Decisions":
    """Answer and record what is not recorded yet, and return everything.

    Raises:
        ConfigError: The data or the record file is wrong.
        BundleError: The bundle is missing, altered or of another version.
        EngineError: A question cannot be answered.
        HandoffError: The cloud does not answer.
    """
    from foggen_runtime.text.questions import read_questions

    data = read_questions(run.data, labelled=True, skip_bad=run.skip_bad)
    for line in data.bad_lines:
        warn(f"{run.data}: line {line.number} is skipped: {line.problem}")
    with ExitStack() as stack:
        path = run.records
        if path is None:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "records.jsonl"
        endpoint = cloud.cloud() if cloud else None
        if endpoint is None:
            return _record(run, path, data, None)
        from foggen_runtime.cloud.client import CloudClient as Client

        return _record(run, path, data, (endpoint, stack.enter_context(Client(endpoint))))


def _record(
    run: "Run", path: Path, data: "QuestionFile", cloud: "tuple[Cloud, CloudClient] | None"
) -> "Decisions":
    from foggen_runtime.evaluation.decisions import Decisions
    from foggen_runtime.evaluation.records import RecordWriter
    from foggen_runtime.evaluation.running import record_all, remaining

    model = cloud[0].model if cloud else None
    with RecordWriter(path, run.header(data.sha256, model)) as writer:
        questions = remaining(data.questions, writer)
        if writer.written and questions:
            note(f"{path} holds {counted(len(writer.written), 'record')}, continuing")
        label = counted(len(questions), "question")
        with (
            interruptible(lambda: _kept(run, writer)),
            progress(len(questions), label) as advance,
        ):
            record_all(
                questions,
                run.make_executor(),
                writer,
                cloud[1] if cloud else None,
                lambda: advance(1),
            )
    return Decisions.read(path)


def _kept(run: "Run", writer: "RecordWriter") -> str:
    if run.records is None:
        return "no answers are kept; use --records FILE to keep them"
    records = counted(writer.count, "record")
    return f"{run.records} holds {records}; run the same command again to continue"
