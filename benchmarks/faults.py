"""10,000 questions to a server that fails: what is lost, answered twice or late.

The client meets every fault of `tests/support/faults.py` in 30 % of its requests. What it gives up
is delivered again with the same idempotency key, as the outbox does, until it is answered. Once the
server honours those keys, once it ignores them. Writes results/faults.json and .md; run as
`python -m benchmarks.faults` (`make faults`, ten minutes) on an idle machine, for limits are
measured.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.machine import machine, write_results
from tests.support.fault_workload import Account, Workload, overruns, run


@dataclass(frozen=True)
class Row:
    """One server and what became of the questions."""

    workload: Workload
    account: Account
    overruns: tuple[str, ...]

    @property
    def server(self) -> str:
        """The server, as the table names it."""
        return "ignores keys" if self.workload.ignore_idempotency else "honours keys"


def ask_all(workload: Workload) -> Row:
    """Run one workload."""
    account = run(workload)
    return Row(workload, account, tuple(overruns(workload, account)))


def page(about: dict[str, object], rows: Sequence[Row]) -> str:
    """Return the results as Markdown."""
    first = rows[0].workload
    cloud = first.cloud("http://127.0.0.1/v1")
    head = ["", *(row.server for row in rows)]
    facts: dict[str, Sequence[object]] = {
        "questions": [row.account.questions for row in rows],
        "lost": [row.account.lost for row in rows],
        "stored twice": [row.account.stored_twice for row in rows],
        "answer of another question": [row.account.mixed_up for row in rows],
        "time limits exceeded by more than a tenth": [len(row.overruns) for row in rows],
        "answered by the first call": [row.account.answered_at_once for row in rows],
        "calls until all were answered": [row.account.calls for row in rows],
        "requests at the server": [row.account.attempts for row in rows],
        "of these with a fault": [sum(row.account.faults.values()) for row in rows],
        "answers made by the server": [row.account.upstream_calls for row in rows],
        "of these for a question that had one": [
            row.account.duplicate_upstream_calls for row in rows
        ],
        "longest call, s": [row.account.longest_seconds for row in rows],
        **{
            f"longest {fault}, s": [row.account.longest_held.get(fault) for row in rows]
            for fault in sorted({name for row in rows for name in row.account.longest_held})
        },
    }
    lines = [
        f"# A cloud that fails in {first.fault_rate:.0%} of requests",
        "",
        f"{about['cpu']}, {about['cores']} cores, load {about['load_average']:.1f} at the start. "
        f"{first.threads} threads; every second question streamed; limits: connect "
        f"{cloud.connect_timeout:g} s, first token {cloud.first_token_timeout:g} s, total "
        f"{cloud.total_timeout:g} s, {cloud.max_retries} retries. How long a client held on to a "
        "silent or slow response is measured by the server.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {name} | {' | '.join(map(str, values))} |" for name, values in facts.items()),
        "",
        *(f"Exceeded ({row.server}): {what}." for row in rows for what in row.overruns),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Run both and write the results."""
    parser = argparse.ArgumentParser(description="Ask a server that fails.")
    parser.add_argument("--questions", type=int, default=10_000)
    questions = parser.parse_args().questions
    about = machine()
    rows = [ask_all(Workload(questions, ignore_idempotency=ignore)) for ignore in (False, True)]
    text = page(about, rows)
    document = {"machine": about, "rows": [asdict(row) for row in rows]}
    write_results("faults", document, text)
    print(text)


if __name__ == "__main__":
    main()
