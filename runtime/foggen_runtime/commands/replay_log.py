"""Decision logs in `foggen replay`: routed share and drift."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from foggen_runtime.bundle.manifest import ConfidenceKind, Manifest
from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.calibrating import level_shares
from foggen_runtime.evaluation.decision_logs import read_decision_log
from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.jsonio import dumps
from foggen_runtime.statistics.drift import Drift, level_drift
from foggen_runtime.wording import counted


@dataclass(frozen=True)
class Watch:
    """What a log is held against.

    Attributes:
        against: A calibrated bundle, or records of its calibration questions.
        alert: A p-value below this is drift.
        as_json: How to print.
    """

    against: Path | None
    alert: float
    as_json: bool


@dataclass(frozen=True)
class Reference:
    """The calibration questions a log is held against."""

    bundle_sha256: str
    on: ConfidenceKind
    tau: float
    levels: tuple[float, ...]
    shares: tuple[float, ...]
    questions: int

    @property
    def counts(self) -> tuple[int, ...]:
        """How many were malformed, and then how many had each level."""
        counts = [round(share * self.questions) for share in self.shares]
        return self.questions - sum(counts), *counts


@dataclass(frozen=True)
class LogReport:
    """What `--json` prints of a decision log.

    Attributes:
        bundle_sha256: The bundle.
        decisions: Its local decisions in the log.
        others: Lines passed over.
        went_share: Share not answered here when they were made.
        routed_shares: Share that goes to the cloud, by tau.
        level_counts: How many were malformed, and then how many had each level.
        drift: The test against the calibration; None without one or with too few decisions.
        alert: Whether the p-value is below the threshold.
    """

    bundle_sha256: str
    decisions: int
    others: int
    went_share: float
    routed_shares: dict[str, float]
    level_counts: tuple[int, ...] | None
    drift: Drift | None
    alert: bool
    schema_version: int = 1


def read_reference(path: Path) -> Reference:
    """Read what a log is held against.

    Raises:
        ConfigError: It is neither a calibrated bundle nor a record file.
    """
    if not path.is_dir():
        decisions = Decisions.read(path)
        header = decisions.header
        shares = level_shares(decisions)
        sha256, count = header.bundle_sha256, len(decisions)
        return Reference(sha256, "verbalized", 0.5, header.levels, shares, count)
    manifest = Manifest.load(path)
    calibration = manifest.routing.calibration
    if calibration is None:
        raise ConfigError(f"against: must be calibrated, {path} is not")
    return Reference(
        manifest.sha256,
        calibration.on,
        calibration.tau,
        manifest.template.level_values,
        calibration.level_shares,
        calibration.questions,
    )


def report_log(
    path: Path,
    taus: Sequence[float],
    on: ConfidenceKind | None,
    watch: Watch,
) -> bool:
    """Print what a log says, and return whether it drifted."""
    reference = read_reference(watch.against) if watch.against else None
    logged = read_decision_log(path, reference.bundle_sha256 if reference else None)
    kind = on or (reference.on if reference else "verbalized")
    taus = taus or [reference.tau if reference else 0.5]
    drift = counts = None
    if reference:
        counts = logged.level_counts(reference.levels)
        drift = level_drift(reference.counts, counts)
    report = LogReport(
        logged.bundle_sha256,
        len(logged),
        logged.others,
        logged.went / len(logged),
        {f"{tau:g}": logged.routed_share(tau, kind) for tau in taus},
        counts,
        drift,
        drift is not None and drift.p_value < watch.alert,
    )
    click.echo(dumps(report) if watch.as_json else _text(report, watch))
    return report.alert


def _text(report: LogReport, watch: Watch) -> str:
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
        lines.append(f"DRIFT: p < {watch.alert:g}" if report.alert else "no drift")
    elif watch.against:
        lines.append("too few decisions to test for drift")
    return "\n".join(lines)
