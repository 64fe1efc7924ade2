"""Questions to a cloud that fails in a third of its responses, with the outbox behind them.

Counts what is lost, stored twice or mixed up (nothing may be), and what the server had to answer
again. Writes results/handoff-faults.json and .md; run as `python -m benchmarks.handoff_faults`
(`make handoff-faults`).
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.machine import machine, write_results
from tests.support.fault_workload import Workload
from tests.support.outbox_workload import Account, run

_ROWS = (
    ("questions", "questions"),
    ("requests that reached the server", "requests"),
    ("of them met a fault", "faults"),
    ("answered at once", "answered_at_once"),
    ("answered through the outbox", "queued"),
    ("lost", "lost"),
    ("stored twice", "stored_twice"),
    ("another question's answer", "mixed_up"),
    ("answers the server made", "upstream_calls"),
    ("of them beyond one for each question", "duplicate_upstream_calls"),
    ("seconds", "seconds"),
)


def table(accounts: Sequence[Account]) -> str:
    """Return the accounts as Markdown, one column each."""
    servers = ["ignores" if account.ignore_idempotency else "honours" for account in accounts]
    lines = [
        "| the server | " + " | ".join(f"{server} idempotency keys" for server in servers) + " |",
        "|---" * (len(accounts) + 1) + "|",
    ]
    columns = [asdict(account) for account in accounts]
    for title, name in _ROWS:
        lines.append(f"| {title} | " + " | ".join(str(column[name]) for column in columns) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run against a server that honours idempotency keys, and one that ignores them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--fault-rate", type=float, default=0.3)
    arguments = parser.parse_args()
    accounts = []
    for ignore in (False, True):
        workload = Workload(
            arguments.questions, fault_rate=arguments.fault_rate, ignore_idempotency=ignore
        )
        with tempfile.TemporaryDirectory() as directory:
            accounts.append(run(workload, Path(directory)))
    runs = [asdict(account) for account in accounts]
    write_results("handoff-faults", {"machine": machine(), "runs": runs}, table(accounts))
    print(table(accounts))
    if any(account.lost or account.stored_twice or account.mixed_up for account in accounts):
        sys.exit("handoff_faults: every question must have one answer, its own")


if __name__ == "__main__":
    main()
