"""A profile as one self-contained HTML page: plots as inline SVG, then the tables.

Colours are CSS variables, so that the page follows the reader's light or dark setting.
"""

from collections.abc import Iterator, Sequence
from html import escape

from foggen_runtime.profiling.page import sections, title
from foggen_runtime.profiling.plots import Bar, Strip, bars, strips
from foggen_runtime.profiling.samples import Round
from foggen_runtime.profiling.schema import PassOperators, Profile
from foggen_runtime.profiling.summary import OUTCOMES
from foggen_runtime.reports.pages import Section

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --faint: #6b7784; --paper: #ffffff;
  --line: #e4e7eb; --bar: #2563a8; --mark: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --faint: #98a4b0;
  --paper: #14181d; --line: #2c333b; --bar: #6ea8e0; --mark: #f08a4b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p { color: var(--faint); } figure { margin: 1.5rem 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .faint { fill: var(--faint); }
svg .bar { fill: var(--bar); } svg .dot { fill: var(--bar); fill-opacity: .45; }
svg .median { stroke: var(--mark); stroke-width: 2; } svg .axis { stroke: var(--line); }
"""

_SHOWN_OPERATORS = 8


def html_page(profile: Profile) -> str:
    """Return the whole page."""
    heading = escape(title(profile))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{heading}</h1>\n<p>{escape(profile.created)}</p>\n"
        + "\n".join((*_plots(profile), *map(_section, sections(profile))))
        + "\n</body>\n</html>\n"
    )


def _plots(profile: Profile) -> Iterator[str]:
    yield _figure(
        "Questions, milliseconds; each dot is one, the line is the median",
        strips(list(_question_strips(profile.rounds))),
    )
    yield _figure(
        "Decisions, milliseconds, process by process: do they drift?",
        strips(
            [
                Strip(f"process {number}", _present(measured, "decision_ms"))
                for number, measured in enumerate(profile.rounds, start=1)
            ]
        ),
    )
    phases = profile.summary.process_ms
    yield _figure(
        "Life of a process, median milliseconds",
        bars(
            [
                Bar(name.replace("_", " "), figures.p50, f"{figures.p50:.1f}")
                for name, figures in phases.items()
                if name != "wall"
            ]
        ),
    )
    for name, traced in profile.operators.items():
        yield _figure(f"Operators of a {name} pass, milliseconds", bars(_operator_bars(traced)))


def _question_strips(rounds: Sequence[Round]) -> Iterator[Strip]:
    samples = [sample for measured in rounds for sample in measured.questions]
    for outcome in OUTCOMES:
        for phase in ("decision", "letter", "total"):
            values = [
                value
                for sample in samples
                if sample.outcome == outcome
                and (value := getattr(sample, f"{phase}_ms")) is not None
            ]
            if values:
                yield Strip(f"{outcome}, {phase}", values)


def _present(measured: Round, name: str) -> list[float]:
    values = (getattr(sample, name) for sample in measured.questions)
    return [value for value in values if value is not None]


def _operator_bars(traced: PassOperators) -> list[Bar]:
    return [
        Bar(time.operator, time.milliseconds, f"{time.milliseconds:.2f} ({time.share:.0%})")
        for time in traced.operators[:_SHOWN_OPERATORS]
    ]


def _figure(caption: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"


def _section(section: Section) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in section.head)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>"
        for row in section.rows
    )
    note = f"<p>{escape(section.note)}</p>" if section.note else ""
    return f"<h2>{escape(section.title)}</h2>\n<table><tr>{head}</tr>\n{rows}</table>{note}"
