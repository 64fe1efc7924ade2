"""`foggen replay`: recorded decisions at any tau and price."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foggen_runtime.commands.command_line import FILE, Command, exit_codes, interruptible
from foggen_runtime.commands.eval import Outputs, output_options
from foggen_runtime.commands.options import on_option, prices_option, take
from foggen_runtime.commands.outputs import json_option, markdown_option, show_page
from foggen_runtime.errors import ConfigError
from foggen_runtime.wording import counted

if TYPE_CHECKING:
    from foggen_runtime.bundle.manifest import ConfidenceKind
    from foggen_runtime.evaluation.decision_logs import LogReport
    from foggen_runtime.evaluation.pairing import Pairing
    from foggen_runtime.evaluation.routing import Point, Prices
    from foggen_runtime.evaluation.summary import Summary, Threshold
    from foggen_runtime.reports.pages import Section

SCHEMA_VERSION = 1
DEFAULT_TAU = 0.5
EXIT_DRIFT = 1


@dataclass(frozen=True)
class Arguments:
    """The command line, as typed."""

    records: Path
    other: Path | None
    tau: tuple[float, ...]
    steps: int | None
    on: "ConfidenceKind | None"
    prices: "Prices"
    cloud_answers: Path | None
    against: Path | None
    alert: float
    as_json: bool
    as_markdown: bool

    @property
    def threshold(self) -> "Threshold":
        """The first tau given."""
        from foggen_runtime.evaluation.summary import Threshold

        return Threshold(
            self.tau[0] if self.tau else DEFAULT_TAU, self.on or "verbalized", self.prices
        )

    def taus(self, levels: Sequence[float]) -> list[float]:
        """Every tau to show: those given, plus equal steps or else the levels."""
        if self.steps:
            import numpy as np

            return sorted({*self.tau, *np.linspace(0, 1, self.steps).tolist()})
        return sorted({*self.tau, *(() if len(self.tau) > 1 else levels)})


@dataclass(frozen=True)
class Replay:
    """What `--json` prints for records."""

    summary: "Summary"
    sweep: "tuple[Point, ...]"
    other: "Summary | None"
    comparison: "Pairing | None"
    schema_version: int = SCHEMA_VERSION


_EPILOG = exit_codes(
    *(0, 2, 130), special={EXIT_DRIFT: "a decision log drifted from its calibration"}
)


@click.command(cls=Command, epilog=_EPILOG)
@click.argument("records", type=FILE)
@click.argument("other", type=FILE, required=False, metavar="[RECORDS2]")
@click.option("--tau", type=float, multiple=True, help="May be repeated.  [default: 0.5]")
@click.option("--steps", type=click.IntRange(min=2), help="Sweep this many taus from 0 to 1.")
@on_option
@prices_option
@click.option(
    "--cloud-answers",
    type=FILE,
    help="Another cloud's answers: JSON Lines with id and cloud_answer.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="The bundle a log is compared with, or its records.",
)
@click.option(
    "--alert", default=0.01, show_default=True, help="Report drift if the p-value is below this."
)
@output_options
@json_option("all figures as one JSON object")
@markdown_option
@click.pass_context
def replay(ctx: click.Context, /, **options: Any) -> None:
    """Replay RECORDS of `foggen eval` at any tau and price, without running the bundle.

    With RECORDS2, show how its decisions differ from the first. RECORDS may also be a decision log
    of real use: this shows the share sent to the cloud, and whether the levels drifted from
    --against.

    \b
    Example:
      foggen replay int4.records.jsonl --steps 21 --prices per_call=0.001
      foggen replay fp32.records.jsonl int4.records.jsonl --tau 0.5
      foggen replay decisions.jsonl --against foggen-int4
    """
    from foggen_runtime.evaluation.decision_logs import is_decision_log
    from foggen_runtime.handoff.policy import check_tau

    outputs = take(Outputs, options)
    arguments = Arguments(**options)
    outputs.check()
    for tau in arguments.tau:
        check_tau(tau)
    if is_decision_log(arguments.records):
        ctx.exit(EXIT_DRIFT if _drifts(arguments) else 0)
    if arguments.against:
        raise ConfigError("against: needs a decision log, the file holds records")
    with interruptible("the records are unchanged, no output is half written"):
        _replay(arguments, outputs)


def _replay(arguments: Arguments, outputs: Outputs) -> None:
    from foggen_runtime.evaluation.decisions import Decisions, read_cloud_replies
    from foggen_runtime.evaluation.pairing import pair
    from foggen_runtime.evaluation.pictures import Series
    from foggen_runtime.evaluation.routing import Prices, sweep
    from foggen_runtime.evaluation.summary import summarize
    from foggen_runtime.evaluation.tables import (
        heading,
        pairing_tables,
        summary_tables,
        sweep_table,
    )
    from foggen_runtime.jsonio import dumps
    from foggen_runtime.reports.pages import Page

    cloud = read_cloud_replies(arguments.cloud_answers) if arguments.cloud_answers else None
    threshold = arguments.threshold
    first = Decisions.read(arguments.records, cloud)
    summary = summarize(first, threshold)
    taus = arguments.taus(first.header.levels)
    points = sweep(first, taus, threshold.kind, threshold.prices)
    tables: list[Section] = [*summary_tables(summary)]
    tables.append(sweep_table(points, priced=arguments.prices != Prices()))
    series = [Series(first.header.recipe, first, threshold)]
    other = comparison = None
    if arguments.other:
        second = Decisions.read(arguments.other, cloud)
        comparison, other = pair(first, second, threshold), summarize(second, threshold)
        tables = [*pairing_tables(comparison), *tables]
        series.append(Series(second.header.recipe, second, threshold))
    page = Page(heading(first.header, summary), tuple(tables))
    outputs.write(page, series)
    if arguments.as_json:
        click.echo(dumps(Replay(summary, points, other, comparison)))
    else:
        show_page(page, as_markdown=arguments.as_markdown)


def _drifts(arguments: Arguments) -> bool:
    """Print what a decision log shows, and return whether it drifted."""
    from foggen_runtime.evaluation.decision_logs import read_decision_log, read_reference, report
    from foggen_runtime.jsonio import dumps

    reference = read_reference(arguments.against) if arguments.against else None
    logged = read_decision_log(arguments.records, reference.bundle_sha256 if reference else None)
    found = report(logged, reference, arguments.tau, arguments.on, arguments.alert)
    click.echo(dumps(found) if arguments.as_json else _text(found, arguments))
    return found.alert


def _text(report: "LogReport", arguments: Arguments) -> str:
    lines = [
        f"{counted(report.decisions, 'decision')} of bundle {report.bundle_sha256[:12]}, "
        f"{counted(report.others, 'other line')}",
        f"not answered here when asked: {report.went_share:.2%}",
        *(f"routed at tau {tau}: {share:.2%}" for tau, share in report.routed_shares.items()),
    ]
    if report.drift:
        drift = report.drift
        lines.append(
            f"levels against calibration: chi square {drift.statistic:.2f}, "
            f"{drift.degrees_of_freedom} degrees of freedom, p = {drift.p_value:.3g}"
        )
        lines.append(f"DRIFT: p < {arguments.alert:g}" if report.alert else "no drift")
    elif arguments.against:
        lines.append("too few decisions to test for drift")
    return "\n".join(lines)
