"""Counting the cores worth computing on."""

import os
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")

# A core with less than this share of the fastest one's capacity slows a parallel product down.
_BIG_SHARE = 0.5


def big_cores(cpus: Path = _CPUS) -> int:
    """Return how many physical big cores this process may run on, at least 1.

    Linux gives a core's relative capacity in `cpu_capacity` (ARM's big.LITTLE) and the hardware
    threads that share it in `topology/thread_siblings_list`; without either, each processor counts
    as one big core.
    """
    allowed = sorted(_allowed())
    capacities = {cpu: _capacity(cpus / f"cpu{cpu}") for cpu in allowed}
    fastest = max(capacities.values())
    big = [cpu for cpu in allowed if capacities[cpu] >= _BIG_SHARE * fastest]
    return len({_siblings(cpus / f"cpu{cpu}") for cpu in big})


def _allowed() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _capacity(cpu: Path) -> int:
    try:
        return int((cpu / "cpu_capacity").read_text())
    except (OSError, ValueError):
        return 1


def _siblings(cpu: Path) -> str:
    try:
        return (cpu / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return cpu.name
