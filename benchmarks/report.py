"""The comparison as Markdown: every row, then ratios of the same round."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.outcome import Outcome
from benchmarks.peers.measuring import DECODED_TOKENS


@dataclass(frozen=True)
class Target:
    """A ratio that our engine should reach: the best peer's time over ours.

    Attributes:
        title: As the table shows it.
        metric: Of `Measurement`, in milliseconds.
        reuse: Whether the peers may reuse the prompt's prefix; None if it does not matter.
        least: What the ratio should be at the least.
    """

    title: str
    metric: str
    reuse: bool | None
    least: float


TARGETS = (
    Target("decision", "decision_ms", reuse=False, least=2.0),
    Target("letter", "letter_ms", reuse=False, least=1.8),
    Target("decision, peers reusing the prefix", "decision_ms", reuse=True, least=1.2),
    Target("letter, peers reusing the prefix", "letter_ms", reuse=True, least=1.0),
    Target("tg64", "tg64_ms", reuse=None, least=1.0),
)


def markdown(machine: dict[str, object], outcomes: Sequence[Outcome]) -> str:
    """Write the whole report; rows that failed are listed at the end."""
    measured = [outcome for outcome in outcomes if outcome.runs]
    failed = [outcome for outcome in outcomes if outcome.failure]
    rounds = max((len(outcome.runs) for outcome in measured), default=0)
    parts = [
        f"# {machine['kind']}",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; 2 threads; "
        f"medians of {rounds} rounds, in brackets the least and the greatest round. How to read "
        "this: [README](../README.md).",
        _table(measured),
        "## Ratios",
        "The best peer's time over ours, medians of the ratios of each round; above 1 we are "
        "faster. Without our snapshot, only peers that reuse nothing compare like with like.",
        _ratios(measured),
    ]
    parts += [f"{outcome.row.name} failed: `{outcome.failure}`" for outcome in failed]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(outcomes: Sequence[Outcome]) -> str:
    head = (
        "engine",
        "prefix reused",
        "decision ms",
        "letter ms",
        "pp128 tok/s",
        "pp512 tok/s",
        "tg64 tok/s",
        "load s",
        "peak RSS MB",
        "disk MB",
    )
    return _rows(head, [_cells(outcome) for outcome in outcomes])


def _cells(outcome: Outcome) -> list[str]:
    return [
        f"**{outcome.row.name}**" if outcome.row.ours else f"{outcome.row.name} {outcome.version}",
        "yes" if outcome.row.reuses_prefix else "no",
        _spread(outcome.rounds("decision_ms"), "{:.0f}"),
        _spread(outcome.rounds("letter_ms"), "{:.0f}"),
        _speed(outcome, "pp128_ms", 128, "{:.0f}"),
        _speed(outcome, "pp512_ms", 512, "{:.0f}"),
        _speed(outcome, "tg64_ms", DECODED_TOKENS, "{:.1f}"),
        f"{outcome.median('load_s'):.2f}",
        f"{outcome.median('peak_rss_mb'):.0f}",
        f"{outcome.disk_mb:.0f}",
    ]


def _ratios(outcomes: Sequence[Outcome]) -> str:
    peers = [outcome for outcome in outcomes if outcome.row.peer]
    columns = [(target, _best(peers, target)) for target in TARGETS]
    known = [(target, best) for target, best in columns if best]
    head = ["ours", *(f"{t.title} (target {t.least:g}): {b.row.name}" for t, b in known)]
    body = [
        [f"**{own.row.name}**", *(_ratio(own, best, target) for target, best in known)]
        for own in outcomes
        if own.row.ours
    ]
    return _rows(head, body)


def _best(peers: Iterable[Outcome], target: Target) -> Outcome | None:
    """Return the peer with the least median, among those the target is about."""
    allowed = [
        peer for peer in peers if target.reuse is None or peer.row.reuses_prefix == target.reuse
    ]
    return min(allowed, key=lambda peer: peer.median(target.metric), default=None)


def _speed(outcome: Outcome, metric: str, tokens: int, form: str) -> str:
    """Return tokens per second, as far as the row writes text."""
    return form.format(tokens * 1e3 / outcome.median(metric)) if outcome.rounds(metric) else ""


def _ratio(own: Outcome, best: Outcome, target: Target) -> str:
    if not own.rounds(target.metric):
        return ""
    pairs = zip(best.rounds(target.metric), own.rounds(target.metric), strict=False)
    ratios = [theirs / ours for theirs, ours in pairs]
    missed = "" if statistics.median(ratios) >= target.least else ", missed"
    return _spread(ratios, "{:.2f}") + missed


def _spread(values: Sequence[float], form: str) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{form.format(middle)} ({form.format(least)}-{form.format(most)})"


def _rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
