"""What was measured of each row of the comparison."""

import statistics
from dataclasses import dataclass, field

from benchmarks.peers.measuring import Measurement
from benchmarks.rows import Row


@dataclass(frozen=True)
class Run:
    """One process: its raw timings, and how long it took from its start to the first decision."""

    load_s: float
    measurement: Measurement


@dataclass
class Outcome:
    """All that was measured of a row; a failure ends it."""

    row: Row
    version: str
    disk_mb: float
    runs: list[Run] = field(default_factory=list)
    failure: str | None = None

    def median(self, metric: str) -> float:
        """Return the median over the rounds of a metric of `Run` or `Measurement`."""
        return statistics.median(self.rounds(metric))

    def rounds(self, metric: str) -> list[float]:
        """Return a metric of each round, the median of its prompts; of none, if it has none."""
        if metric == "load_s":
            return [run.load_s for run in self.runs]
        values = [getattr(run.measurement, metric) for run in self.runs]
        measured = [value for value in values if value != []]
        return [
            statistics.median(value) if isinstance(value, list) else value for value in measured
        ]
