"""What the comparison of rounding methods says, as Markdown; the conclusion follows from rules."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.rounding_bundles import EMBEDDING_ONLY, LAYERS_ONLY, SHIPPED
from benchmarks.rounding_judging import (
    FEWER,
    MORE,
    SIGNIFICANCE,
    TAU,
    UNCLEAR,
    Difference,
    Judged,
    Score,
)
from foggen_runtime.evaluation.bootstrap import Interval


@dataclass(frozen=True)
class Report:
    """Every method judged.

    Attributes:
        clean: Calibrated on all built-in questions.
        halves: Calibrated on random halves of them, for methods that calibrate.
        outliers: With injected outliers.
    """

    clean: Sequence[Judged]
    halves: Sequence[Judged]
    outliers: Sequence[Judged]


def markdown(report: Report, counts: Mapping[str, int]) -> str:
    """Write the page.

    Args:
        report: What to write.
        counts: How many questions there were: `calibration`, `half`, `held_out`, `fresh`,
            `under_outliers`.
    """
    parts = [
        _introduction(counts),
        "## As trained",
        _clean_table(report.clean),
        _AGAINST.format(comparisons=_comparisons(report.clean)),
        _against_table(report.clean),
        "## Other calibration questions",
        f"Random halves of the built-in questions, {counts['half']} each, on the same "
        f"{counts['held_out'] + counts['fresh']} questions.",
        _setting_table(report.halves),
        "## Injected outliers",
        f"A few channels grow and what reads them shrinks, so that fp32 stays the same; the first "
        f"{counts['under_outliers']} held-out questions.",
        _setting_table(report.outliers),
        "## Conclusion",
        *conclusion(report),
    ]
    return "\n\n".join(parts) + "\n"


_AGAINST = f"""\
Question by question against {SHIPPED.name}, on held-out and fresh questions together. *p* is \
McNemar's, exact; with {{comparisons}} comparisons, flips are told apart where it is below \
{SIGNIFICANCE} / {{comparisons}}. Intervals are 95 % each, over resampled questions: they say \
nothing of other models or other calibration questions."""


def _introduction(counts: Mapping[str, int]) -> str:
    return (
        f"How `int4` weights are rounded, on the tiny FogGen: blocks of 128, whole zero points and "
        f"the same bytes for every method. Calibrated on the {counts['calibration']} built-in "
        f"questions, judged against fp32 at tau = {TAU} on {counts['held_out']} held-out questions "
        f"and {counts['fresh']} fresh ones. Made by `python -m benchmarks.rounding`.\n\n"
        "*clipped ranges* minimizes each block's squared weight error. *HQQ* solves for zero "
        "points, which the format then rounds; *scales too* solves for scales as well. *AWQ* "
        "scales channels, then clips ranges by the error of products; what reads the tied "
        "embedding cannot be scaled, so there it only clips. *SmoothQuant* scales as for `int8`. "
        f"The recipe `int4-gptq` is *{SHIPPED.name}*. The last rows round layers and embedding, "
        "which is the output head too, by different methods. Nothing was tuned on the questions "
        "that judge. *change* is the mean absolute change of the expected confidence, *seconds* "
        "processor time of calibrating and rounding."
    )


def _clean_table(rows: Sequence[Judged]) -> str:
    head = ("method", "MB", "seconds", "held-out flips", "fresh flips", "all flips")
    body = [
        (
            row.method,
            f"{row.cost.weights_mb:.3f}",
            f"{row.cost.seconds:.1f}",
            *(_flips(row.parts[name]) for name in ("held-out", "fresh")),
            _flips(row.score),
            f"{row.score.level_changes / row.score.questions:.2%}",
            f"{row.score.change:.4f}",
        )
        for row in rows
    ]
    return _table((*head, "level changes", "change"), body)


def _against_table(rows: Sequence[Judged]) -> str:
    shipped, comparisons = SHIPPED.name, _comparisons(rows)
    head = ("method", "flips it alone", f"flips {shipped} alone", "difference, points", "p")
    body = [
        (
            row.method,
            str(row.against.only_one),
            str(row.against.only_other),
            _interval(row.against.flips, row.against.flips_interval, "+.2f", 100),
            f"{row.against.p_value:.2g}",
            row.against.flips_verdict(comparisons),
            _interval(row.against.change, row.against.change_interval, "+.4f"),
        )
        for row in rows
        if row.against
    ]
    return _table((*head, "flips", "difference of the change"), body)


def _setting_table(rows: Sequence[Judged]) -> str:
    head = ("setting", "method", "flips", "level changes", "change")
    against = ("difference, points", "p", f"flips against {SHIPPED.name}")
    comparisons = _comparisons(rows)
    body = [
        (
            row.setting,
            row.method,
            _flips(row.score),
            f"{row.score.level_changes / row.score.questions:.2%}",
            f"{row.score.change:.4f}",
            *_against_cells(row.against, comparisons),
        )
        for row in rows
    ]
    return _table((*head, *against), body)


def _against_cells(against: Difference | None, comparisons: int) -> tuple[str, str, str]:
    if against is None:
        return "", "", ""
    points = _interval(against.flips, against.flips_interval, "+.2f", 100)
    return points, f"{against.p_value:.2g}", against.flips_verdict(comparisons)


def conclusion(report: Report) -> list[str]:
    """Say in sentences what the numbers tell apart from the shipped method, and what they do not.

    Flips are told apart by their p-values, changes of the expected confidence by their intervals.
    """
    shipped = SHIPPED.name
    sentences = [
        f"As trained, {_verdicts(report.clean)}.",
        *_gain(report.clean),
        f"Mean change of the expected confidence, {_change_verdicts(report.clean)}.",
        f"Over all {1 + len(_by_setting(report.halves))} sets of calibration questions, flips are "
        f"{_spreads(report)}: a difference within such a spread says nothing of the methods. Set "
        f"by set, {_verdicts(report.halves)}.",
    ]
    sentences += [
        f"Outliers, {setting}: {_verdicts(rows, _comparisons(report.outliers))}."
        for setting, rows in _by_setting(report.outliers).items()
    ]
    better = [
        f"*{row.method}* ({row.setting})"
        for rows in (report.clean, report.outliers)
        for row in _told(rows, _comparisons(rows)).get(FEWER, [])
    ]
    if better:
        sentences.append(f"**Fewer flips than {shipped}: {', '.join(better)}.**")
    else:
        sentences.append(f"No method has fewer flips than {shipped} that can be told apart.")
    return sentences


def _gain(rows: Sequence[Judged]) -> list[str]:
    """Say whether the shipped method gains in the embedding alone, if the numbers do."""
    comparisons = _comparisons(rows)
    verdicts = {row.method: row.against.flips_verdict(comparisons) for row in rows if row.against}
    found = verdicts.get(LAYERS_ONLY.name), verdicts.get(EMBEDDING_ONLY.name)
    if found != (MORE, UNCLEAR):
        return []
    return [
        f"What {SHIPPED.name} gains as trained, it gains in the embedding, which is the output "
        "head: without that there are more flips, and with that alone no more that can be told "
        "apart."
    ]


def _told(rows: Sequence[Judged], comparisons: int) -> dict[str, list[Judged]]:
    told: dict[str, list[Judged]] = {}
    for row in rows:
        if row.against:
            told.setdefault(row.against.flips_verdict(comparisons), []).append(row)
    return told


def _verdicts(rows: Sequence[Judged], comparisons: int | None = None) -> str:
    """Group methods by what their flips tell.

    Args:
        rows: The methods.
        comparisons: How many comparisons these are among; None for as many as they are.
    """
    several = len(_by_setting(rows)) > 1
    told = _told(rows, comparisons or _comparisons(rows))
    groups = [
        f"{verdict}: " + ", ".join(f"*{row.method}*{_where(row, several)}" for row in told[verdict])
        for verdict in (MORE, UNCLEAR, FEWER)
        if verdict in told
    ]
    return "; ".join(groups)


def _where(row: Judged, several: bool) -> str:
    return f" ({row.setting})" if several else ""


def _change_verdicts(rows: Sequence[Judged]) -> str:
    found: dict[str, list[str]] = {"larger": [], UNCLEAR: [], "smaller": []}
    for row in rows:
        if row.against:
            interval = row.against.change_interval
            signs = {interval.low > 0: "larger", interval.high < 0: "smaller"}
            found[signs.get(True, UNCLEAR)].append(f"*{row.method}*")
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in found.items() if names)


def _spreads(report: Report) -> str:
    """Return each calibrated method's least and most flips over the calibration sets."""
    names = dict.fromkeys(row.method for row in report.halves)
    found = []
    for name in names:
        scores = [row.score for row in (*report.clean, *report.halves) if row.method == name]
        shares = [score.flips / score.questions for score in scores]
        found.append(f"{min(shares):.2%} to {max(shares):.2%} (*{name}*)")
    return ", ".join(found)


def _comparisons(rows: Iterable[Judged]) -> int:
    return sum(row.against is not None for row in rows)


def _by_setting(rows: Iterable[Judged]) -> dict[str, list[Judged]]:
    found: dict[str, list[Judged]] = {}
    for row in rows:
        found.setdefault(row.setting, []).append(row)
    return found


def _flips(score: Score) -> str:
    low, high = score.flip_interval.low, score.flip_interval.high
    return f"{score.flips}: {score.flips / score.questions:.2%} [{low:.2%}, {high:.2%}]"


def _interval(value: float, interval: Interval, form: str, factor: float = 1.0) -> str:
    parts = (factor * part for part in (value, interval.low, interval.high))
    middle, low, high = (f"{part:{form}}" for part in parts)
    return f"{middle} [{low}, {high}]"


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
