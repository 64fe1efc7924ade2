"""`foggen replay`: recorded decisions at any tau and price."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from foggen_runtime.commands.evaluation_options import (
    FILE,
    Outputs,
    on_option,
    output_options,
    prices_option,
)
from foggen_runtime.commands.options import take
from foggen_runtime.commands.replay_log import EXIT_DRIFT, Watch, report_log
from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.cloud_answers import CloudAnswers
from foggen_runtime.evaluation.decision_logs import is_decision_log
from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.evaluation.pairing import Pairing, pair
from foggen_runtime.evaluation.pictures import Series
from foggen_runtime.evaluation.routing import Point, Prices, sweep
from foggen_runtime.evaluation.summary import Summary, Threshold, summarize
from foggen_runtime.evaluation.tables import (
    Table,
    heading,
    page,
    pairing_tables,
    summary_tables,
    sweep_table,
)
from foggen_runtime.handoff.policy import check_tau
from foggen_runtime.jsonio import dumps
from foggen_runtime.manifest import ConfidenceKind

SCHEMA_VERSION = 1
DEFAULT_TAU = 0.5


@dataclass(frozen=True)
class Arguments:
    """The command line, as typed."""

    records: Path
    other: Path | None
    tau: tuple[float, ...]
    steps: int | None
    on: ConfidenceKind | None
    prices: Prices
    cloud_answers: Path | None
    as_json: bool

    @property
    def threshold(self) -> Threshold:
        """The first tau given."""
        return Threshold(
            self.tau[0] if self.tau else DEFAULT_TAU, self.on or "verbalized", self.prices
        )

    def taus(self, levels: Sequence[float]) -> list[float]:
        """Every tau to show: those given, and equal steps or else the levels."""
        if self.steps:
            return sorted({*self.tau, *np.linspace(0, 1, self.steps).tolist()})
        return sorted({*self.tau, *(() if len(self.tau) > 1 else levels)})


@dataclass(frozen=True)
class Replay:
    """What `--json` prints of records."""

    summary: Summary
    sweep: tuple[Point, ...]
    other: Summary | None
    comparison: Pairing | None
    schema_version: int = SCHEMA_VERSION


_EPILOG = f"""\b
Exit codes:
  0  done
  2  wrong usage, or a file is not as it must be
  {EXIT_DRIFT}  a decision log drifted from its calibration
"""


@click.command(epilog=_EPILOG)
@click.argument("records", type=FILE)
@click.argument("other", type=FILE, required=False, metavar="[RECORDS2]")
@click.option("--tau", type=float, multiple=True, help="May be repeated.  [default: 0.5]")
@click.option("--steps", type=click.IntRange(min=2), help="Sweep so many taus from 0 to 1.")
@on_option
@prices_option
@click.option("--cloud-answers", type=FILE, help="Another cloud's answers: id, cloud_answer.")
@click.option("--against", type=click.Path(path_type=Path), help="A log's bundle, or its records.")
@click.option("--alert", default=0.01, show_default=True, help="A p-value below this is drift.")
@output_options
@click.option("--json", "as_json", is_flag=True, help="Print all figures as one JSON object.")
@click.pass_context
def replay(ctx: click.Context, /, **options: Any) -> None:
    """Replay RECORDS of `foggen eval` at any tau and price, without running the bundle.

    With RECORDS2, say how its decisions differ from the first. RECORDS may be a decision log of
    real use: then say its routed share, and whether its levels drifted from --against.

    \b
    Example:
      foggen replay int4.records.jsonl --steps 21 --prices per_call=0.001
      foggen replay fp32.records.jsonl int4.records.jsonl --tau 0.5
      foggen replay decisions.jsonl --against foggen-int4
    """
    outputs = take(Outputs, options)
    watch = Watch(options.pop("against"), options.pop("alert"), options["as_json"])
    arguments = Arguments(**options)
    outputs.check()
    for tau in arguments.tau:
        check_tau(tau)
    if is_decision_log(arguments.records):
        ctx.exit(report_log(arguments.records, arguments.tau, arguments.on, watch))
    if watch.against:
        raise ConfigError("against: goes with a decision log, the file holds records")
    _replay(arguments, outputs)


def _replay(arguments: Arguments, outputs: Outputs) -> None:
    cloud = CloudAnswers.read(arguments.cloud_answers) if arguments.cloud_answers else None
    threshold = arguments.threshold
    first = Decisions.read(arguments.records, cloud)
    summary = summarize(first, threshold)
    taus = arguments.taus(first.header.levels)
    points = sweep(first, taus, threshold.kind, threshold.prices)
    tables: list[Table] = [*summary_tables(summary)]
    tables.append(sweep_table(points, priced=arguments.prices != Prices()))
    series = [Series(first.header.recipe, first, threshold)]
    other = comparison = None
    if arguments.other:
        second = Decisions.read(arguments.other, cloud)
        comparison, other = pair(first, second, threshold), summarize(second, threshold)
        tables = [*pairing_tables(comparison), *tables]
        series.append(Series(second.header.recipe, second, threshold))
    title = heading(first.header, summary)
    outputs.write(title, tables, series)
    document = Replay(summary, points, other, comparison)
    click.echo(dumps(document) if arguments.as_json else page(title, tables), nl=arguments.as_json)
