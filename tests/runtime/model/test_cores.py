import os
from pathlib import Path

import pytest

from foggen_runtime.model.cores import big_cores


def write_cpus(root: Path, capacities: list[int | None], siblings: list[str | None]) -> None:
    for cpu, (capacity, sharing) in enumerate(zip(capacities, siblings, strict=True)):
        topology = root / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        if capacity is not None:
            (root / f"cpu{cpu}" / "cpu_capacity").write_text(f"{capacity}\n")
        if sharing is not None:
            (topology / "thread_siblings_list").write_text(f"{sharing}\n")


@pytest.mark.parametrize(
    ("capacities", "siblings", "expected"),
    [
        ([300, 300, 1024, 1024], ["0", "1", "2", "3"], 2),  # big.LITTLE
        ([250, 800, 1024, 1024], ["0", "1", "2", "3"], 3),  # three kinds: the middle one counts
        ([None] * 4, ["0,2", "1,3", "0,2", "1,3"], 2),  # two threads to a core
        ([None] * 3, [None] * 3, 3),  # a kernel that tells nothing
    ],
)
def test_big_cores(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capacities: list[int | None],
    siblings: list[str | None],
    expected: int,
) -> None:
    write_cpus(tmp_path, capacities, siblings)
    allowed = set(range(len(capacities)))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed)
    assert big_cores(tmp_path) == expected


def test_only_the_processors_this_process_may_use_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cpus(tmp_path, [1024] * 4, ["0", "1", "2", "3"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})
    assert big_cores(tmp_path) == 1
