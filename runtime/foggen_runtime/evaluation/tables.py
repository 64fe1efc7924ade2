"""Tables of an evaluation, for Markdown and HTML alike."""

from collections.abc import Sequence

from foggen_runtime.evaluation.pairing import Pairing
from foggen_runtime.evaluation.records import Header
from foggen_runtime.evaluation.routing import Point
from foggen_runtime.evaluation.summary import DomainMean, Figures, Summary
from foggen_runtime.reports.pages import Section
from foggen_runtime.statistics.bootstrap import Interval
from foggen_runtime.wording import counted


def heading(header: Header, summary: Summary) -> str:
    """Return a page's title."""
    return (
        f"{header.bundle}, {header.recipe}: {counted(summary.questions, 'question')} at "
        f"tau = {summary.tau:.4g} on {summary.confidence} confidence"
    )


def summary_tables(summary: Summary) -> list[Section]:
    """Return the figures, overall and by domain, without the unknown ones."""
    tables = [
        Section("Figures", ("figure", "value", "95 % interval"), tuple(_figure_rows(summary)))
    ]
    if summary.by_domain:
        rows = [_domain_row(name, row) for name, row in summary.by_domain.items()]
        if summary.domain_mean:
            rows.append(_mean_row(summary.domain_mean))
        head = ("domain", "questions", "local accuracy", "routed", "system accuracy", "lift")
        tables.append(Section("Domains", head, tuple(rows)))
    return tables


def sweep_table(points: Sequence[Point], *, priced: bool) -> Section:
    """Return the system's figures over thresholds."""
    head = ["tau", "routed", "system accuracy", "lift", "accuracy of the kept"]
    rows = [
        [
            f"{point.tau:.4g}",
            _percent(point.routed_share),
            _percent(point.system_accuracy),
            _points(point.lift),
            _percent(point.kept_accuracy),
            *([f"{point.cost:.4g}"] if priced else []),
        ]
        for point in points
    ]
    head += ["cost"] if priced else []
    return Section("Thresholds", tuple(head), tuple(map(tuple, rows)))


def pairing_tables(pairing: Pairing) -> list[Section]:
    """Return what changed from one record file to another."""
    flips = pairing.flips
    shares = tuple(
        (
            name.replace("_", " "),
            _percent(change.reference),
            _percent(change.other),
            _points(change.difference),
            _range(change.interval),
        )
        for name, change in pairing.changes.items()
    )
    counted = (
        ("flipped decisions", str(flips.count), _percent(flips.share), _range(flips.interval)),
        ("changed levels", str(pairing.level_changes), _share(pairing), ""),
    )
    return [
        Section("Decisions", ("", "questions", "share", "95 % interval"), counted),
        Section("Shares", ("", "first", "second", "difference", "95 % interval"), shares),
    ]


def _share(pairing: Pairing) -> str:
    return _percent(pairing.level_changes / pairing.questions)


def _figure_rows(summary: Summary) -> list[tuple[str, str, str]]:
    shares = {
        "system_accuracy": _percent(summary.system_accuracy),
        "routed_share": _percent(summary.routed_share),
        "local_accuracy": _percent(summary.local_accuracy),
        "cloud_accuracy": _percent(summary.cloud_accuracy),
        "lift": _points(summary.lift),
        "kept_accuracy": _percent(summary.kept_accuracy),
    }
    rows = [
        (
            name.replace("_", " "),
            text,
            _range(summary.intervals[name]) if name in summary.intervals else "",
        )
        for name, text in shares.items()
    ]
    others = [
        ("cost for each question", f"{summary.cost:.4g}"),
        ("malformed", str(summary.malformed)),
        ("AUROC", _number(summary.auroc)),
        ("expected calibration error", _number(summary.expected_calibration_error)),
        ("Brier score", _number(summary.brier)),
        ("risk-coverage area", _number(summary.risk_coverage_area)),
        ("APGR", _number(summary.average_recovered)),
        ("CPT(50 %)", _percent(summary.call_share_50)),
        ("CPT(80 %)", _percent(summary.call_share_80)),
        ("IBC lift", _percent(summary.incremental_benefit_lift)),
    ]
    return rows + [(name, text, "") for name, text in others]


def _domain_row(name: str, row: Figures) -> tuple[str, ...]:
    return (
        name,
        str(row.questions),
        _percent(row.local_accuracy),
        _percent(row.routed_share),
        _percent(row.system_accuracy),
        _points(row.lift),
    )


def _mean_row(mean: DomainMean) -> tuple[str, ...]:
    return (
        "mean over domains",
        "",
        _percent(mean.local_accuracy),
        _percent(mean.routed_share),
        _percent(mean.system_accuracy),
        _points(mean.lift),
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _points(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _range(interval: Interval) -> str:
    return f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}]"
