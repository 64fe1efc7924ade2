"""`foggen calibrate`: choose tau for a target, and write it into the bundle."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foggen_runtime.commands.command_line import FILE, BundleType, Command, exit_codes
from foggen_runtime.commands.options import (
    BundleArguments,
    bundle_options,
    on_option,
    prices_option,
    take,
)
from foggen_runtime.commands.outputs import json_option
from foggen_runtime.commands.terminal import quiet_option
from foggen_runtime.errors import BundleError, ConfigError
from foggen_runtime.wording import counted

if TYPE_CHECKING:
    from foggen_runtime.bundle.manifest import CalibrationInfo, ConfidenceKind
    from foggen_runtime.evaluation.calibrating import Target, TargetName
    from foggen_runtime.evaluation.decisions import Decisions
    from foggen_runtime.evaluation.routing import Prices

_TARGETS: "tuple[TargetName, ...]" = ("max_cloud_share", "min_accuracy", "max_cost", "max_risk")
DEFAULT_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Targets:
    """The targets, exactly one of which must be given."""

    max_cloud_share: float | None
    min_accuracy: float | None
    max_cost: float | None
    max_risk: float | None
    confidence: float | None
    on: "ConfidenceKind | None"
    prices: "Prices"

    def target(self) -> "Target":
        """Return the target that was given.

        Raises:
            ConfigError: None or several were given.
        """
        from foggen_runtime.evaluation.calibrating import Target

        given = [name for name in _TARGETS if getattr(self, name) is not None]
        if len(given) != 1:
            listed = ", ".join(f"--{name.replace('_', '-')}" for name in _TARGETS)
            raise ConfigError(f"target: give exactly one of {listed}; {len(given)} were given")
        certainty = self.confidence
        if given[0] == "max_risk" and certainty is None:
            certainty = DEFAULT_CONFIDENCE
        limit = float(getattr(self, given[0]))
        return Target(given[0], limit, certainty, self.on or "verbalized", self.prices)


@dataclass(frozen=True)
class Arguments:
    """The rest of the command line, as typed."""

    bundle: str
    data: Path | None
    records: Path | None
    skip_bad: bool
    dry_run: bool
    as_json: bool


_EPILOG = exit_codes(
    *(0, 3, 7, 130),
    special={2: "wrong usage, no tau meets the target, or there is too little data"},
)


@click.command(cls=Command, epilog=_EPILOG)
@click.argument("bundle", type=BundleType())
@click.argument("data", type=FILE, required=False)
@click.option(
    "--records",
    type=FILE,
    help="Records of `foggen eval`; with DATA, keep them there and continue.",
)
@click.option("--max-cloud-share", type=float, help="Highest share of questions sent to the cloud.")
@click.option(
    "--min-accuracy", type=float, help="Lowest accuracy of local and cloud answers together."
)
@click.option("--max-cost", type=float, help="Highest average cost of a question; needs --prices.")
@click.option("--max-risk", type=float, help="Highest share of wrong answers among the local ones.")
@click.option(
    "--confidence",
    type=float,
    help="Probability that the target holds on new questions.  [default: 0.95 for --max-risk, "
    "else none]",
)
@on_option
@prices_option
@click.option("--skip-bad", is_flag=True, help="Skip malformed lines, and say which.")
@click.option("--dry-run", is_flag=True, help="Only choose tau; do not write it.")
@bundle_options
@json_option("the calibration as one JSON object")
@quiet_option
def calibrate(**options: Any) -> None:
    """Choose BUNDLE's tau for a target, on labelled questions, and write it there.

    Without --confidence, the target is met on DATA itself; with it, also on new questions of the
    same kind, with that probability.

    \b
    Example:
      foggen calibrate foggen-int4 questions.jsonl --max-risk 0.1 --confidence 0.95
    """
    from foggen_runtime.bundle.hub import locate_bundle
    from foggen_runtime.bundle.manifest import Manifest
    from foggen_runtime.jsonio import dumps

    bundle, targets = take(BundleArguments, options), take(Targets, options)
    arguments = Arguments(**options)
    target = targets.target()
    directory = locate_bundle(arguments.bundle)
    manifest = Manifest.load(directory)
    decisions = _decisions(arguments, directory, bundle)
    if decisions.header.bundle_sha256 != manifest.sha256:
        raise ConfigError(
            f"records: must be of this bundle, {manifest.sha256}, are of "
            f"{decisions.header.bundle_sha256}"
        )
    calibration = _calibration(decisions, target)
    if not arguments.dry_run:
        _write(directory, calibration)
    click.echo(dumps(calibration) if arguments.as_json else _text(calibration, arguments))


def _decisions(arguments: Arguments, directory: Path, bundle: BundleArguments) -> "Decisions":
    from foggen_runtime.commands.eval import recorded
    from foggen_runtime.evaluation.decisions import Decisions
    from foggen_runtime.evaluation.running import Run

    if arguments.data is None:
        if arguments.records is None:
            raise ConfigError("data: must be given, or --records FILE; neither is")
        return Decisions.read(arguments.records)
    run = Run(
        directory,
        arguments.data,
        arguments.records,
        arguments.skip_bad,
        bundle.open_options(),
    )
    return recorded(run)


def _calibration(decisions: "Decisions", target: "Target") -> "CalibrationInfo":
    from foggen_runtime.bundle.manifest import CalibrationInfo
    from foggen_runtime.evaluation.calibrating import choose, level_shares

    chosen = choose(decisions, target)
    return CalibrationInfo(
        method="observed" if target.certainty is None else "clopper-pearson",
        target=target.name,
        limit=target.limit,
        on=target.on,
        tau=chosen.tau,
        observed=chosen.observed,
        bound=chosen.bound,
        certainty=target.certainty,
        questions=len(decisions),
        data_sha256=decisions.header.data_sha256,
        date=datetime.now(UTC).date().isoformat(),
        level_shares=level_shares(decisions),
    )


def _write(directory: Path, calibration: "CalibrationInfo") -> None:
    """Write the calibration into the manifest as it is now, in one step.

    Raises:
        BundleError: The manifest cannot be written.
    """
    from foggen_runtime.bundle.manifest import Manifest, RoutingInfo

    manifest = replace(Manifest.load(directory), routing=RoutingInfo(calibration.tau, calibration))
    try:
        manifest.save(directory)
    except OSError as error:
        raise BundleError(f"{directory}: routing cannot be written: {error}") from error


def _text(calibration: "CalibrationInfo", arguments: Arguments) -> str:
    lines = [
        f"tau = {calibration.tau:.6g} on {calibration.on} confidence",
        f"{calibration.target}: {calibration.limit:g}; on "
        f"{counted(calibration.questions, 'question')} it is {calibration.observed:.4g}",
    ]
    if calibration.bound is not None:
        worst = "at least" if calibration.target == "min_accuracy" else "at most"
        lines.append(
            f"on new ones {worst} {calibration.bound:.4g} with confidence "
            f"{calibration.certainty:g} ({calibration.method})"
        )
    lines.append("nothing was written" if arguments.dry_run else f"written to {arguments.bundle}")
    return "\n".join(lines)
