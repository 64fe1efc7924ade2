"""Whether `foggen serve` stands many clients: 200 at once for a minute, on the tiny FogGen.

Half of the requests are streamed, one in fifty is given up by its client, and a 429 is waited out
as its Retry-After says. Writes results/serve-load.json and .md; run as
`python -m benchmarks.serve_load` (`make serve-load`).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.machine import machine, write_results
from tests.support.export import export_bundle
from tests.support.load import Load, Outcome, rss_bytes

TINY = Path(__file__).parent.parent / "tests" / "tiny_foggen"
_FLAT = 0.02  # growth of the memory from the second third of the time to the last
FOGGEN = str(Path(sys.executable).parent / "foggen")


@contextmanager
def server(bundle: Path) -> Iterator[tuple[str, int]]:
    """Run the command, and give its URL and process id."""
    command = [FOGGEN, "serve", str(bundle), "--port", "0", "--threads", "1", "--no-spinning"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip(), running.pid
        finally:
            running.terminate()


def questions() -> list[str]:
    """Return the held-out questions."""
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["question"] for line in lines]


def summary(
    load: Load, outcome: Outcome, status: dict[str, object], idle: int
) -> dict[str, object]:
    """Return what is written down; times in milliseconds, memory in MB."""
    rss = [size / 1e6 for size in outcome.rss_bytes]
    third = len(rss) // 3
    cuts = statistics.quantiles(outcome.seconds, n=100)
    return {
        "clients": load.clients,
        "seconds": load.seconds,
        "statuses": {str(code): count for code, count in sorted(outcome.statuses.items())},
        "errors": dict(outcome.errors),
        "broken_answers": outcome.broken,
        "abandoned": outcome.abandoned,
        "answers": dict(outcome.sources),
        "latency_ms": {f"p{p}": round(1e3 * cuts[p - 1], 1) for p in (50, 95, 99)},
        "rss_mb": {
            "idle": round(idle / 1e6, 1),
            "second_third": round(statistics.median(rss[third : 2 * third]), 1),
            "last_third": round(statistics.median(rss[2 * third :]), 1),
            "highest": round(max(rss), 1),
        },
        "server_errors": status["errors"],
        "server_cancelled": status["cancelled"],
    }


def table(document: dict[str, object]) -> str:
    """Return the summary as Markdown."""
    lines = ["| | |", "|---|---|"]
    for name, value in document.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key}: {number}" for key, number in value.items()) or "none"
        lines.append(f"| {name.replace('_', ' ')} | {value} |")
    return "\n".join(lines) + "\n"


def faults(outcome: Outcome) -> list[str]:
    """Return what a server that stands the load would not show."""
    third = len(outcome.rss_bytes) // 3
    before = statistics.median(outcome.rss_bytes[third : 2 * third])
    after = statistics.median(outcome.rss_bytes[2 * third :])
    found = {
        f"statuses must be 200 and 429, are {dict(outcome.statuses)}": (
            set(outcome.statuses) - {200, 429}
        ),
        f"errors must be none, are {dict(outcome.errors)}": outcome.errors,
        f"broken answers must be none, are {outcome.broken}": outcome.broken,
        f"memory must be flat, grew by {after / before - 1:.1%}": after > (1 + _FLAT) * before,
    }
    return [text for text, true in found.items() if true]


def main() -> None:
    """Load the server and write the results; exit with 1 if it did not stand the load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        bundle = export_bundle(TINY / "checkpoint", Path(directory) / "int4", "int4")
        with server(bundle) as (url, pid):
            chat = f"{url}/v1/chat/completions"
            idle = rss_bytes(pid)
            load = Load(chat, questions(), arguments.clients, arguments.seconds, pid)
            outcome = load.run()
            status = httpx.get(f"{url}/status").json()
    document = summary(load, outcome, status, idle)
    write_results("serve-load", {"machine": machine(), **document}, table(document))
    print(table(document))
    sys.exit("\n".join(faults(outcome)) or 0)


if __name__ == "__main__":
    main()
