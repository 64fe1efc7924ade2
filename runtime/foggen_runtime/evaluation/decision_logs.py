"""Decision logs of real use: they do not say which answers are right, but show shares and drift."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foggen_runtime.bundle.manifest import ConfidenceKind, Manifest
from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.calibrating import level_shares
from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.handoff.decision_log import RECORD_VERSION
from foggen_runtime.jsonio import parse_json
from foggen_runtime.statistics.arrays import Float64
from foggen_runtime.statistics.drift import Drift, level_drift

_UNREADABLE = ("malformed", "context_length")


@dataclass(frozen=True)
class LoggedDecisions:
    """Local decisions of one bundle.

    Attributes:
        bundle_sha256: The bundle.
        verbalized: The stated confidence; minus infinity where the output was malformed.
        expected: The probability-weighted confidence; minus infinity where there is none.
        went: How many questions were not answered here at the time.
        others: How many lines were skipped: no local decision, or by another bundle.
    """

    bundle_sha256: str
    verbalized: Float64
    expected: Float64
    went: int
    others: int

    def __len__(self) -> int:
        """Return how many decisions there are."""
        return len(self.verbalized)

    def routed_share(self, tau: float, on: ConfidenceKind) -> float:
        """Return the share that goes to the cloud at tau."""
        confidence = self.verbalized if on == "verbalized" else self.expected
        return float(np.mean(confidence < tau))

    def level_counts(self, levels: Sequence[float]) -> tuple[int, ...]:
        """Return how many were malformed, and then how many had each level."""
        counts = Counter(self.verbalized.tolist())
        return counts[-np.inf], *(counts[level] for level in levels)


@dataclass(frozen=True)
class Reference:
    """The calibration questions that a log is compared with."""

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
        others: How many other lines were skipped.
        went_share: Share of questions not answered here at the time.
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
    """Read a calibrated bundle, or records of its calibration questions.

    Raises:
        ConfigError: It is neither.
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


def is_decision_log(path: Path) -> bool:
    """Whether a file begins like a decision log rather than a record file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            document = parse_json(file.readline())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except ValueError:
        return False
    return isinstance(document, dict) and "record_version" in document


def read_decision_log(path: Path, bundle_sha256: str | None = None) -> LoggedDecisions:
    """Read the decisions of one bundle.

    Half a line that a power cut left is skipped, as are questions that never reached the model.

    Args:
        path: The log.
        bundle_sha256: The bundle; None for that of the last line.

    Raises:
        ConfigError: It cannot be read, is of a newer version, or holds no decision of the bundle.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        rows = list(_documents(lines, path))
        sha256 = bundle_sha256 or (rows[-1]["bundle"]["sha256"] if rows else "")
        local = [row for row in rows if row["bundle"]["sha256"] == sha256 and _was_local(row)]
        if not local:
            raise ConfigError(f"{path}: must hold a local decision of the bundle, holds none")
        formed = [_reason(row) not in _UNREADABLE for row in local]
        return LoggedDecisions(
            sha256,
            _confidences([row["confidence"] for row in local], formed),
            _confidences([row["expected_confidence"] for row in local], formed),
            went=sum(row["source"] != "local" for row in local),
            others=len(rows) - len(local),
        )
    except (OSError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is not a decision log: {error}") from error


def report(
    logged: LoggedDecisions,
    reference: Reference | None,
    taus: Sequence[float],
    on: ConfidenceKind | None,
    alert: float,
) -> LogReport:
    """Report a log.

    Args:
        logged: Its decisions.
        reference: What to compare them with; None for nothing.
        taus: Where to give the routed share; empty for the calibration's tau.
        on: Which confidence tau is compared with; None for the calibration's.
        alert: A p-value below this is drift.
    """
    kind = on or (reference.on if reference else "verbalized")
    taus = taus or [reference.tau if reference else 0.5]
    drift = counts = None
    if reference:
        counts = logged.level_counts(reference.levels)
        drift = level_drift(reference.counts, counts)
    return LogReport(
        logged.bundle_sha256,
        len(logged),
        logged.others,
        logged.went / len(logged),
        {f"{tau:g}": logged.routed_share(tau, kind) for tau in taus},
        counts,
        drift,
        drift is not None and drift.p_value < alert,
    )


def _documents(lines: Sequence[str], path: Path) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            document = parse_json(line)
        except ValueError:
            continue
        if document["record_version"] > RECORD_VERSION:
            raise ConfigError(
                f"{path}: record_version: must be at most {RECORD_VERSION}, "
                f"is {document['record_version']}"
            )
        yield document


def _was_local(row: dict[str, Any]) -> bool:
    return row["confidence"] is not None or _reason(row) in _UNREADABLE


def _reason(row: dict[str, Any]) -> str:
    return str(row["deferral"] or row["reason"])


def _confidences(values: Sequence[float | None], formed: Sequence[bool]) -> Float64:
    return np.array(
        [
            value if ok and value is not None else -np.inf
            for value, ok in zip(values, formed, strict=True)
        ],
        np.float64,
    )
