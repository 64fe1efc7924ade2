"""What the server counts, for Prometheus and for the status page. Never content."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from foggen_runtime.result import BundleRef, Result
from foggen_runtime.serving.connections import Connections
from foggen_runtime.serving.desk import Desk

_LAST = 20  # decisions that the status page shows
_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
_SOURCES = ("local", "cloud", "queued", "none")


@dataclass(frozen=True)
class DecisionLine:
    """One line of the status page.

    Attributes:
        at: Unix time in seconds.
        decision_ms: Time to decision; None if the model was not asked.
        total_ms: Time to the end of the answer, without the wait in line.
    """

    at: float
    source: str
    reason: str
    confidence: float | None
    tau: float
    decision_ms: float | None
    total_ms: float


class _Dropped(Collector):
    """Counts the connections that were dropped, by reason."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "foggen_connections_dropped",
            "Connections that the server ended before their clients did.",
            labels=["reason"],
        )
        for reason, count in self._connections.dropped.items():
            family.add_metric([reason], count)
        yield family


class Ledger:
    """Counts answers, errors and times; used in the event loop's thread."""

    def __init__(
        self, bundle: BundleRef, version: str, desk: Desk, connections: Connections
    ) -> None:
        """Start counting.

        Args:
            bundle: Who answers.
            version: The installed version of foggen.
            desk: Says how many questions are running and waiting.
            connections: Says how many are open, and how many were dropped.
        """
        self._registry = CollectorRegistry()
        self._bundle = bundle
        self._version = version
        self._desk = desk
        self._connections = connections
        self._started = time.time()
        self._last: deque[DecisionLine] = deque(maxlen=_LAST)
        self._sources = dict.fromkeys(_SOURCES, 0)
        self._buckets = [0] * (len(_BOUNDS) + 1)
        self._errors: dict[str, int] = {}
        self._cancelled = 0
        self._declare()

    def _declare(self) -> None:
        registry = self._registry
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        info = Gauge(
            "foggen_bundle_info", "Who answers.", ["name", "sha256", "version"], registry=registry
        )
        info.labels(self._bundle.name, self._bundle.sha256, self._version).set(1)
        running = Gauge("foggen_questions_running", "Questions being asked.", registry=registry)
        running.set_function(lambda: self._desk.running)
        waiting = Gauge("foggen_questions_waiting", "Questions in line.", registry=registry)
        waiting.set_function(lambda: self._desk.waiting)
        opened = Gauge("foggen_connections", "Open connections.", registry=registry)
        opened.set_function(lambda: len(self._connections))
        registry.register(_Dropped(self._connections))
        self._answers = Counter(
            "foggen_answers", "Asked questions.", ["source", "reason"], registry=registry
        )
        self._confidences = Counter(
            "foggen_confidence", "Decisions by confidence level.", ["level"], registry=registry
        )
        self._failures = Counter(
            "foggen_errors", "Requests answered with an error.", ["code"], registry=registry
        )
        self._gone = Counter(
            "foggen_cancelled", "Questions whose client went away.", registry=registry
        )
        self._tokens = Counter("foggen_tokens", "Tokens by kind.", ["kind"], registry=registry)
        self._seconds = Histogram(
            "foggen_phase_seconds",
            "Time of a question's phases: decision, handoff, total.",
            ["phase"],
            buckets=_BOUNDS,
            registry=registry,
        )

    def answered(self, result: Result) -> None:
        """Count a question that was asked, whether or not it was answered."""
        self._answers.labels(result.source, result.reason).inc()
        self._sources[result.source] += 1
        timing, usage = result.timing_ms, result.usage
        if result.confidence is not None:
            self._confidences.labels(f"{result.confidence:g}").inc()
        for phase in ("decision", "handoff", "total"):
            if (milliseconds := getattr(timing, phase)) is not None:
                self._seconds.labels(phase).observe(milliseconds / 1e3)
        for kind in ("prompt", "decoded", "cloud_prompt", "cloud_completion"):
            self._tokens.labels(kind).inc(getattr(usage, f"{kind}_tokens") or 0)
        self._buckets[sum(timing.total / 1e3 > bound for bound in _BOUNDS)] += 1
        self._last.appendleft(
            DecisionLine(
                time.time(),
                result.source,
                result.reason,
                result.confidence,
                result.tau,
                timing.decision,
                timing.total,
            )
        )

    def failed(self, code: str) -> None:
        """Count a request that was answered with an error."""
        self._failures.labels(code).inc()
        self._errors[code] = self._errors.get(code, 0) + 1

    def cancelled(self) -> None:
        """Count a question whose client went away."""
        self._gone.inc()
        self._cancelled += 1

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def status(self) -> dict[str, Any]:
        """Return what the status page shows."""
        asked = sum(self._sources.values())
        return {
            "bundle": asdict(self._bundle),
            "version": self._version,
            "uptime_s": time.time() - self._started,
            "running": self._desk.running,
            "waiting": self._desk.waiting,
            "answers": self._sources,
            "routed_share": 1 - self._sources["local"] / asked if asked else None,
            "errors": self._errors,
            "cancelled": self._cancelled,
            "latency": {"bounds_ms": [1e3 * bound for bound in _BOUNDS], "counts": self._buckets},
            "decisions": [asdict(line) for line in self._last],
        }
