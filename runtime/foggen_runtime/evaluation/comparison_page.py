"""A comparison to read: in words and tables, and as a picture."""

import math
from typing import TYPE_CHECKING

from foggen_runtime.evaluation.comparison import Comparison, DomainRow, Figures, Rate, Rates
from foggen_runtime.reports.drawing import FAINT, INK, Canvas
from foggen_runtime.reports.pages import Page, Section
from foggen_runtime.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_LEVEL = "malformed"
_ACCENT, _QUIET = "#c2410c", "#2563a8"
_CANVAS = Canvas((12, 5.2), font_size=11, dpi=150)


def labels(comparison: Comparison) -> tuple[str, str]:
    """Return names for the two bundles: their recipes or, if they are the same, A and B."""
    reference, other = comparison.reference.recipe, comparison.other.recipe
    return ("A", "B") if reference == other else (reference, other)


def page(comparison: Comparison) -> Page:
    """Return the comparison in words and tables."""
    reference, other = labels(comparison)
    flips = comparison.flips
    sections = [_figures(comparison), _levels(comparison), _taus(comparison)]
    if comparison.domains:
        sections.append(_domains(comparison))
    return Page(
        title=f"{other} against {reference}",
        items=tuple(
            f"{label}: {bundle.name}, recipe {bundle.recipe}, bundle {bundle.sha256}; "
            f"tau is compared with its {bundle.tau_on} confidence"
            for label, bundle in zip(
                labels(comparison), (comparison.reference, comparison.other), strict=True
            )
        ),
        finding=f"{_percent(flips.rate)} of decisions flip",
        details=f"at tau = {comparison.tau:g}: {flips.count} of {flips.total}, 95 % interval "
        f"{_range(flips)}. With 95 % confidence the rate is at most "
        f"{_percent(comparison.flip_rate_upper_bound)}.",
        sections=tuple(sections),
    )


def picture(comparison: Comparison, kind: str) -> bytes:
    """Return the levels and the flips over tau, side by side, as a file's content.

    Args:
        comparison: What to draw.
        kind: `svg` or `png`.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    return _CANVAS.picture(lambda figure: _draw(figure, comparison), kind)


def _figures(comparison: Comparison) -> Section:
    rows = [_rates_row("deferred", comparison.deferred)]
    if comparison.accuracy:
        rows.append(_rates_row("local accuracy", comparison.accuracy))
    for name, figures in (("AUROC", comparison.auroc), ("ECE", comparison.ece)):
        if figures:
            rows.append(_figures_row(name, figures))
    change = comparison.expected_confidence_change
    rows.append(("expected confidence", "", "", "-" if change is None else f"±{change:.4f}"))
    agreement = comparison.answer_agreement
    note = ""
    if agreement is not None:
        note = (
            f"Answers agree on {_percent(agreement.rate)} {_range(agreement)} of "
            f"{counted(agreement.total, 'answered question')}. Brackets hold 95 % intervals."
        )
    return Section("", ("", *labels(comparison), "change"), tuple(rows), note=note)


def _rates_row(name: str, rates: Rates) -> tuple[str, ...]:
    delta = f"{rates.delta:+.2%}"
    return (name, _with_range(rates.reference), _with_range(rates.other), delta)


def _figures_row(name: str, figures: Figures) -> tuple[str, ...]:
    both = [
        "-" if value is None else f"{value:.4f}" for value in (figures.reference, figures.other)
    ]
    return (name, *both, "-" if figures.delta is None else f"{figures.delta:+.4f}")


def _levels(comparison: Comparison) -> Section:
    reference, other = labels(comparison)
    names = (*comparison.levels, NO_LEVEL)
    rows = tuple(
        (name, *(str(count) for count in counts))
        for name, counts in zip(names, comparison.confusion, strict=True)
    )
    intro = "Questions by the level that each bundle gave them."
    return Section("Levels", (f"{reference} \\ {other}", *names), rows, intro=intro)


def _taus(comparison: Comparison) -> Section:
    rows = tuple(
        (f"{row.tau:g}", str(row.flips.count), _with_range(row.flips))
        for row in comparison.flips_by_tau
    )
    return Section("Flips over tau", ("tau", "flips", "rate"), rows)


def _domains(comparison: Comparison) -> Section:
    reference, other = labels(comparison)
    head = ["domain", "questions", "flips", "answers agree"]
    if comparison.accuracy:
        head += [f"accuracy {reference}", f"accuracy {other}"]
    rows = tuple(_domain(row, len(head)) for row in comparison.domains)
    return Section("Domains", tuple(head), rows)


def _domain(row: DomainRow, width: int) -> tuple[str, ...]:
    agreement = "-" if row.answer_agreement is None else _with_range(row.answer_agreement)
    cells = [row.domain or "(none)", str(row.questions), _with_range(row.flips), agreement]
    if row.accuracy:
        cells += [_with_range(row.accuracy.reference), _with_range(row.accuracy.other)]
    return (*cells, *["-"] * (width - len(cells)))


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _range(rate: Rate) -> str:
    return f"[{100 * rate.low:.2f}, {100 * rate.high:.2f}]"


def _with_range(rate: Rate) -> str:
    return f"{_percent(rate.rate)} {_range(rate)}"


def _draw(figure: "Figure", comparison: Comparison) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    _draw_levels(left, comparison)
    _draw_taus(right, comparison)
    reference, other = labels(comparison)
    figure.suptitle(
        f"{other} against {reference}: {_percent(comparison.flips.rate)} of "
        f"{comparison.questions} decisions flip at tau = {comparison.tau:g}",
        fontsize=15,
        fontweight="bold",
    )


def _draw_levels(axes: "Axes", comparison: Comparison) -> None:
    """Draw the confusion matrix, each row shaded by its own shares, and where tau cuts it.

    It cuts levels only where it is compared with them.
    """
    names = [*comparison.levels, NO_LEVEL]
    values = [*map(float, comparison.levels), -math.inf]
    order = sorted(range(len(names)), key=values.__getitem__)
    counts = [[comparison.confusion[i][j] for j in order] for i in order]
    if not any(counts[0]) and not any(row[0] for row in counts):
        order, counts = order[1:], [row[1:] for row in counts[1:]]
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            color = "white" if shares[i][j] > 0.5 else INK if count else FAINT
            axes.text(j, i, str(count), ha="center", va="center", color=color)
    cut = sum(values[i] < comparison.tau for i in order) - 0.5
    by_level = [
        bundle.tau_on == "verbalized" for bundle in (comparison.reference, comparison.other)
    ]
    for draw, cuts in zip((axes.axhline, axes.axvline), by_level, strict=True):
        if cuts:
            draw(cut, color=_ACCENT, linewidth=2)
    reference, other = labels(comparison)
    axes.set_xticks(range(len(order)), [names[i] for i in order])
    axes.set_yticks(range(len(order)), [names[i] for i in order])
    axes.set_xlabel(f"confidence by {other}")
    axes.set_ylabel(f"confidence by {reference}")
    flips = "; top right and bottom left of tau flip" if all(by_level) else ""
    axes.set_title(f"Questions by level{flips}", fontsize=12)


def _draw_taus(axes: "Axes", comparison: Comparison) -> None:
    """Draw the flip rate at every level as tau, with intervals, and in red the one that counts."""
    points = {row.tau: (row.flips, _QUIET) for row in comparison.flips_by_tau}
    points[comparison.tau] = (comparison.flips, _ACCENT)
    for tau, (flips, color) in points.items():
        rate, low, high = 100 * flips.rate, 100 * flips.low, 100 * flips.high
        spread = ([rate - low], [high - rate])
        axes.errorbar([tau], [rate], yerr=spread, fmt="o", capsize=5, color=color, clip_on=False)
        axes.annotate(f"{rate:.2f}", (tau, rate), (8, 4), textcoords="offset points", color=color)
    axes.set_xticks(sorted(points), [f"{tau:g}" for tau in sorted(points)])
    axes.set_ylim(bottom=0)
    axes.margins(x=0.1)
    axes.set_xlabel("tau")
    axes.set_ylabel("flipped decisions, %")
    axes.set_title("Flip rate over tau, with 95 % intervals", fontsize=12)
    axes.grid(axis="y", color="#e4e7eb")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
