"""A profile to read: in tables, and with plots as HTML."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from foggen_runtime.profiling.samples import Conditions, QuestionSample, Reading, Round
from foggen_runtime.profiling.schema import Distribution, Profile
from foggen_runtime.profiling.summary import OUTCOMES
from foggen_runtime.reports.html_page import Bar, Figure, Strip, bars, html_page, strips
from foggen_runtime.reports.pages import Page, Section
from foggen_runtime.wording import counted

NOT_AVAILABLE = "not available"
_DRAWN_OPERATORS = 8


def page(profile: Profile) -> Page:
    """Return the profile in tables."""
    where = profile.device.board or profile.device.cpu
    return Page(
        f"{profile.bundle.name} ({profile.bundle.recipe}) on {where}",
        (
            _device(profile),
            _questions(profile),
            _outcomes(profile),
            _process(profile),
            _throughput(profile),
            _memory(profile),
            *_operators(profile),
            _conditions(profile),
        ),
    )


def html(profile: Profile) -> str:
    """Return the profile as an HTML file: when it was made, plots, and the tables."""
    return html_page(replace(page(profile), items=(profile.created,)), tuple(_figures(profile)))


def _figures(profile: Profile) -> Iterator[Figure]:
    yield Figure(
        strips(tuple(_question_strips(profile.rounds))),
        "Questions, milliseconds; each dot is one, the line is the median",
    )
    decisions = [
        Strip(f"process {number}", _present(measured.questions, "decision"))
        for number, measured in enumerate(profile.rounds, start=1)
    ]
    yield Figure(
        strips(decisions), "Decisions, milliseconds, process by process: do they get slower?"
    )
    phases = [
        Bar(name.replace("_", " "), figures.p50, f"{figures.p50:.1f}")
        for name, figures in profile.summary.process_ms.items()
        if name != "wall"
    ]
    yield Figure(bars(phases), "Life of a process, median milliseconds")
    for name, traced in profile.operators.items():
        slowest = [
            Bar(time.operator, time.milliseconds, f"{time.milliseconds:.2f} ({time.share:.0%})")
            for time in traced.operators[:_DRAWN_OPERATORS]
        ]
        yield Figure(bars(slowest), f"Operators of a {name} pass, milliseconds")


def _question_strips(rounds: Sequence[Round]) -> Iterator[Strip]:
    samples = [sample for measured in rounds for sample in measured.questions]
    for outcome in OUTCOMES:
        group = [sample for sample in samples if sample.outcome == outcome]
        for phase in ("decision", "letter", "total"):
            yield Strip(f"{outcome}, {phase}", _present(group, phase))


def _present(samples: Sequence[QuestionSample], phase: str) -> list[float]:
    values = (getattr(sample, f"{phase}_ms") for sample in samples)
    return [value for value in values if value is not None]


def _device(profile: Profile) -> Section:
    device, bundle = profile.device, profile.bundle
    frequencies = [f"{group.max_mhz:.0f} MHz" for group in device.cores if group.max_mhz]
    rows = (
        ("bundle", f"{bundle.sha256[:12]}, {_bytes(bundle.bytes)}"),
        ("board", device.board or NOT_AVAILABLE),
        ("processors", f"{device.cpu or NOT_AVAILABLE} ({device.architecture})"),
        ("highest frequency", ", ".join(frequencies) or NOT_AVAILABLE),
        ("instructions", ", ".join(device.features) or NOT_AVAILABLE),
        ("memory", _bytes(device.memory_bytes)),
        ("system", device.system or NOT_AVAILABLE),
        ("kernel", device.kernel or NOT_AVAILABLE),
        ("foggen", profile.software.foggen or NOT_AVAILABLE),
        ("onnxruntime", profile.software.onnxruntime),
        ("prepared model", "yes" if profile.rounds[0].prepared else "no"),
        ("settings", _settings(profile)),
    )
    return Section("Device", ("", ""), rows)


def _settings(profile: Profile) -> str:
    settings = profile.settings
    return (
        f"{counted(settings.rounds, 'process')} of {counted(settings.questions, 'question')}, "
        f"threads {settings.threads or 'of the big cores'}, "
        f"spinning {_on(settings.spinning)}, KleidiAI {_on(settings.kleidiai)}"
    )


def _questions(profile: Profile) -> Section:
    return Section(
        "Questions, milliseconds",
        ("phase", "n", "p50", "p90", "p99", "mean"),
        tuple(_times(profile.summary.questions_ms)),
        note="`decision` is the time to decision (TTD), from the question to local-or-cloud; "
        "`letter` is the time to the first piece of a local answer. `answer` begins at the "
        "decision.",
    )


def _outcomes(profile: Profile) -> Section:
    summary = profile.summary
    rows = [
        (name, str(outcome.count), *_p50s(outcome.times_ms))
        for name, outcome in summary.outcomes.items()
    ]
    wasted = summary.wasted
    note = "Nothing was deferred."
    if wasted:
        note = (
            f"Wasted on deferred questions: {wasted.decision_ms.p50:.1f} ms each (p50), "
            f"{wasted.share_of_local_time:.1%} of all time spent on this device, "
            f"{wasted.forward_passes:.1f} forward passes and {wasted.fed_tokens:.0f} prompt tokens "
            "each."
        )
    head = ("outcome", "questions", "decision p50", "letter p50", "handoff p50", "total p50")
    return Section("By decision, milliseconds", head, tuple(rows), note=note)


def _p50s(times: dict[str, Distribution]) -> tuple[str, ...]:
    phases = (times.get(name) for name in ("decision", "letter", "handoff", "total"))
    return tuple("-" if figures is None else f"{figures.p50:.1f}" for figures in phases)


def _process(profile: Profile) -> Section:
    times = profile.summary.process_ms
    accounted = 1 - times["unaccounted"].mean / times["wall"].mean
    return Section(
        "Process, milliseconds",
        ("phase", "n", "p50", "p90", "p99", "mean"),
        tuple(_times({name.replace("_", " "): figures for name, figures in times.items()})),
        note=f"The phases account for {accounted:.1%} of the processes' wall clock. "
        "`first decision` is from the process's start to its first decision, with cold caches of "
        "its own.",
    )


def _times(times: dict[str, Distribution]) -> Iterable[tuple[str, ...]]:
    for name, figures in times.items():
        values = (figures.p50, figures.p90, figures.p99, figures.mean)
        yield (name, str(figures.count), *(f"{value:.1f}" for value in values))


def _throughput(profile: Profile) -> Section:
    rows = tuple(
        (name, f"{figures.mean:.2f} ± {figures.stddev or 0:.2f}", str(figures.count))
        for name, figures in profile.summary.tokens_per_second.items()
    )
    note = "As llama-bench: random tokens, an empty cache, mean ± standard deviation."
    return Section("Throughput", ("test", "t/s", "n"), rows, note=note)


def _memory(profile: Profile) -> Section:
    summary = profile.summary
    rows = (
        ("peak RSS", _bytes(summary.peak_rss_bytes)),
        ("steady RSS", _bytes(summary.steady_rss_bytes)),
        ("steady, anonymous", _bytes(summary.steady_anonymous_bytes)),
        ("steady, file-backed", _bytes(summary.steady_file_bytes)),
    )
    note = "Medians over the processes. Steady is after the questions; file-backed pages can go."
    return Section("Memory", ("", ""), rows, note=note)


def _operators(profile: Profile) -> Iterable[Section]:
    for name, traced in profile.operators.items():
        rows = tuple(
            (time.operator, f"{time.milliseconds:.3f}", f"{time.share:.1%}", f"{time.calls:g}")
            for time in traced.operators
            if time.share >= 0.005
        )
        note = (
            f"Of {traced.pass_ms:.2f} ms for a pass of {traced.fed_tokens:.0f} tokens, mean of "
            f"{traced.passes}; the tracing itself takes time. Shares below 0.5 % are left out."
        )
        head = ("operator", "ms", "share", "calls")
        yield Section(f"Operators of a {name} pass", head, rows, note=note)


def _conditions(profile: Profile) -> Section:
    """What the sensors showed before the first round and after the last."""
    first, last = profile.rounds[0].before, profile.rounds[-1].after
    rows = (
        ("frequency, MHz", _range(first.frequencies_mhz), _range(last.frequencies_mhz)),
        ("governor", _words(first.governors), _words(last.governors)),
        ("temperature, °C", _readings(first.temperatures_c), _readings(last.temperatures_c)),
        ("throttling", _readings(first.throttling), _readings(last.throttling)),
        ("power, W", _readings(first.power_w), _readings(last.power_w)),
        ("battery", _batteries(first), _batteries(last)),
        ("load average", _load(first), _load(last)),
    )
    return Section("Conditions", ("", "before the first process", "after the last"), rows)


def _range(readings: Sequence[Reading]) -> str:
    values = [reading.value for reading in readings]
    if not values:
        return NOT_AVAILABLE
    return f"{min(values):.0f} to {max(values):.0f}"


def _readings(readings: Sequence[Reading]) -> str:
    return "; ".join(f"{reading.name} {reading.value:g}" for reading in readings) or NOT_AVAILABLE


def _words(words: Sequence[str]) -> str:
    return ", ".join(words) or NOT_AVAILABLE


def _batteries(conditions: Conditions) -> str:
    texts = [
        f"{battery.name} "
        f"{NOT_AVAILABLE if battery.charge_percent is None else f'{battery.charge_percent:g} %'}, "
        f"{battery.status or NOT_AVAILABLE}"
        for battery in conditions.batteries
    ]
    return "; ".join(texts) or NOT_AVAILABLE


def _load(conditions: Conditions) -> str:
    return NOT_AVAILABLE if conditions.load_average is None else f"{conditions.load_average:.2f}"


def _bytes(count: float | None) -> str:
    return NOT_AVAILABLE if count is None else f"{count / 1e6:.1f} MB"


def _on(flag: bool) -> str:
    return "on" if flag else "off"
