"""An evaluation as one picture of four: needs the extra `report`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from foggen_runtime.evaluation.decisions import Decisions
from foggen_runtime.evaluation.routing import curve, sweep
from foggen_runtime.evaluation.summary import Threshold
from foggen_runtime.reports.drawing import FAINT, Canvas
from foggen_runtime.statistics.intervals import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GRID = "#e4e7eb"
_COLOURS = ("#2563a8", "#c2410c", "#0b6e4f", "#7c3aed", "#8793a3")
_BINS = 10
_CANVAS = Canvas((11, 8), font_size=10, dpi=130)


@dataclass(frozen=True)
class Series:
    """A bundle in a picture: its name, its decisions, its threshold."""

    label: str
    decisions: Decisions
    threshold: Threshold


def picture(series: Sequence[Series], kind: str) -> bytes:
    """Draw risk-coverage, cost-quality, reliability and, of the last bundle, levels by domain.

    Args:
        series: The bundles.
        kind: `svg` or `png`.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    return _CANVAS.picture(lambda figure: _draw(figure, series), kind)


def _draw(figure: "Figure", series: Sequence[Series]) -> None:
    (risk, quality), (reliability, levels) = figure.subplots(2, 2)
    for colour, one in zip(_COLOURS * len(series), series, strict=False):
        _draw_risk(risk, one, colour)
        _draw_quality(quality, one, colour)
        _draw_reliability(reliability, one, colour)
    _finish(risk, "Risk-coverage", ("answered locally, %", "wrong among them, %"))
    _finish(quality, "Cost-quality; dotted: random routing", ("routed, %", "right, %"))
    _finish(reliability, "Reliability", ("confidence", "right locally, %"))
    reliability.plot([0, 1], [0, 100], color=FAINT, linewidth=1, zorder=0)
    _draw_levels(levels, series[-1])


def _draw_risk(axes: "Axes", series: Series, colour: str) -> None:
    traced = curve(series.decisions, series.threshold.kind)
    routed = np.linspace(0, 1, 401)[:-1]
    risk = np.interp(routed, traced.routed, traced.kept_errors) / (1 - routed)
    axes.plot(100 * (1 - routed), 100 * risk, color=colour, label=series.label)
    (point,) = sweep(series.decisions, [series.threshold.tau], series.threshold.kind)
    if point.kept_accuracy is not None:
        place = 100 * (1 - point.routed_share), 100 * (1 - point.kept_accuracy)
        axes.plot(*place, "o", color=colour)
    axes.set_ylim(bottom=0)


def _draw_quality(axes: "Axes", series: Series, colour: str) -> None:
    if not series.decisions.knows_cloud:
        axes.text(0.5, 0.5, "the cloud's answers are not known", ha="center", color=FAINT)
        return
    traced = curve(series.decisions, series.threshold.kind)
    shares = np.unique(np.concatenate([traced.routed[:: len(traced.routed) // 200 + 1], [1]]))
    accuracy = np.interp(shares, traced.routed, traced.accuracy)
    label = f"{series.label}, tau {series.threshold.tau:.3g}"
    axes.plot(100 * shares, 100 * accuracy, color=colour, label=label)
    axes.plot([0, 100], [100 * traced.weak, 100 * traced.strong], ":", color=colour, linewidth=1)
    (point,) = sweep(series.decisions, [series.threshold.tau], series.threshold.kind)
    axes.plot(100 * point.routed_share, 100 * (point.system_accuracy or 0), "o", color=colour)


def _draw_reliability(axes: "Axes", series: Series, colour: str) -> None:
    """Draw the accuracy at each level, or in ten bins of expected confidence, with intervals."""
    confidence = series.decisions.confidence(series.threshold.kind)
    formed = np.isfinite(confidence)
    stated, right = confidence[formed], series.decisions.local_correct[formed]
    if series.threshold.kind == "verbalized":
        _, group = np.unique(stated, return_inverse=True)
    else:
        group = np.minimum((stated * _BINS).astype(np.int64), _BINS - 1)
    places, shares, low, high = [], [], [], []
    for number in np.unique(group):
        chosen = group == number
        count, total = int(right[chosen].sum()), int(chosen.sum())
        bottom, top = interval(count, total)
        places.append(float(stated[chosen].mean()))
        shares.append(100 * count / total)
        low.append(max(0.0, 100 * (count / total - bottom)))
        high.append(max(0.0, 100 * (top - count / total)))
    axes.errorbar(
        places, shares, yerr=(low, high), fmt="o-", capsize=4, color=colour, label=series.label
    )


def _draw_levels(axes: "Axes", series: Series) -> None:
    """Draw each domain's questions by level, the most confident on the right."""
    decisions = series.decisions
    names = sorted({domain or "" for domain in decisions.domains})
    domains = np.array([domain or "" for domain in decisions.domains])
    levels = [-np.inf, *sorted(decisions.header.levels)]
    left = np.zeros(len(names))
    for shade, level in zip(np.linspace(0.15, 1, len(levels)), levels, strict=True):
        shares = np.array(
            [100 * np.mean(decisions.verbalized[domains == name] == level) for name in names]
        )
        if shares.any():
            label = "malformed" if np.isinf(level) else f"{level:g}"
            colour = _COLOURS[1] if np.isinf(level) else _COLOURS[0]
            axes.barh(
                [name or "all" for name in names],
                shares,
                left=left,
                color=colour,
                alpha=float(shade),
                label=label,
            )
        left += shares
    _finish(axes, f"Levels by domain, {series.label}", ("questions, %", ""))
    axes.grid(visible=False)
    axes.legend(ncols=6, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14))


def _finish(axes: "Axes", title: str, names: tuple[str, str]) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.grid(color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
