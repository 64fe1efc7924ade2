"""What a start takes: memory by kind, and time from the process's start to the first decision.

Full-size bundles, each in a fresh process, as they are and prepared, with the whole output head
and with `--head choices`; llama.cpp and onnxruntime-genai in the same rounds, where their
environments are there. Writes results/<machine>-memory.json and .md; run as
`python -m benchmarks.memory` (`make memory`) on an idle machine.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.compare import THREADS, start_process
from benchmarks.machine import machine, machine_kind, write_results
from benchmarks.peers.measuring import Request
from benchmarks.prompts import Prompts
from benchmarks.rows import ROWS, Row
from benchmarks.workspace import REPOSITORY, Workspace, run, size_mb, workspace_argument
from foggen_runtime.bundle.manifest import Manifest

BUNDLES = {
    "start-int4": ["--quant", "int4"],
    "start-int4-choices": ["--quant", "int4", "--head", "choices"],
    "start-int8": ["--quant", "int8"],
    "start-int8-choices": ["--quant", "int8", "--head", "choices"],
}
PEERS = ("llamacpp", "genai")
QUESTION = (
    "A train leaves at 9:40 and arrives at 12:25 after two stops of five minutes each. "
    "How long was it moving?\nA) 2 h 25 min\nB) 2 h 35 min\nC) 2 h 45 min\nD) 2 h 55 min"
)
_SAMPLE_SECONDS = 0.01


@dataclass(frozen=True)
class Start:
    """One start of ours.

    Attributes:
        ready_s: From the process's start until a question may come.
        decided_s: From the process's start to the first decision.
        peak_mb: Largest resident set of all kinds.
        peak_anonymous_mb: Largest of what the system cannot take back, sampled every 10 ms.
        anonymous_mb: After the decision.
        mapped_mb: After the decision, of files: what the system can take back.
    """

    ready_s: float
    decided_s: float
    peak_mb: float
    peak_anonymous_mb: float
    anonymous_mb: float
    mapped_mb: float


@dataclass
class Ours:
    """A bundle, prepared or not, and its starts."""

    bundle: str
    prepared: bool
    disk_mb: float
    prompt_tokens: int = 0
    starts: list[Start] = field(default_factory=list)

    def middle(self, name: str) -> float:
        """Return the median of one of a start's figures."""
        return float(median(getattr(start, name) for start in self.starts))


@dataclass
class Theirs:
    """A peer, and its times from the process's start to the first decision."""

    name: str
    decided_s: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)


def start(workspace: Workspace, row: Ours) -> Start:
    """Start once.

    Raises:
        RuntimeError: The process failed, or did not use what was prepared.
    """
    bundle = str(workspace.model(row.bundle))
    request = {"bundle": bundle, "prepared": row.prepared, "threads": THREADS, "question": QUESTION}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.memory_process"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process has no pipes")
    process.stdin.write(json.dumps(request))
    process.stdin.close()
    sampled = [0.0]
    while process.poll() is None:
        sampled.append(_anonymous_mb(process.pid))
        time.sleep(_SAMPLE_SECONDS)
    output = process.stdout.read()
    process.stdout.close()
    if process.returncode:
        raise RuntimeError(f"{row.bundle}: exit status {process.returncode}")
    found = json.loads(output)
    if row.prepared != (found["prepared"] == "ready"):
        raise RuntimeError(f"{row.bundle}: prepared must be {row.prepared}, is {found['prepared']}")
    row.prompt_tokens = found["prompt_tokens"]
    anonymous = found["after"]["anonymous"]
    return Start(
        ready_s=found["ready"] - began,
        decided_s=found["decided"] - began,
        peak_mb=found["after"]["peak"],
        peak_anonymous_mb=max(*sampled, anonymous, found["loaded"]["anonymous"]),
        anonymous_mb=anonymous,
        mapped_mb=found["after"]["mapped"],
    )


def _anonymous_mb(pid: int) -> float:
    """Return a process's anonymous resident memory; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in lines if line.startswith("RssAnon")]
    return int(found[0]) * 1024 / 1e6 if found else 0.0


def make_bundles(workspace: Workspace) -> list[Ours]:
    """Export and prepare what is missing, and start each once to have it in the page cache."""
    run(sys.executable, "-m", "benchmarks.checkpoint", "--work", workspace.root)
    rows = []
    for name, options in BUNDLES.items():
        bundle = workspace.model(name)
        if not bundle.exists():
            exporter = Path(sys.executable).with_name("foggen-export")
            run(exporter, workspace.checkpoint, *options, "-o", bundle)
        run(Path(sys.executable).with_name("foggen"), "prepare", bundle)
        disk = size_mb(bundle)
        prepared = size_mb(bundle.with_name(f"{bundle.name}.prepared"))
        rows += [Ours(name, False, disk), Ours(name, True, disk + prepared)]
    for row in rows:
        start(workspace, row)
    return rows


def start_peer(workspace: Workspace, row: Row) -> tuple[float, float]:
    """Return seconds to a peer's first decision, and its peak resident set in MB."""
    prompt = Manifest.load(workspace.model("start-int4")).prompt
    template = Manifest.load(workspace.model("start-int4")).template
    request = Request(
        model=str(workspace.model(row.model)),
        option=row.option,
        threads=THREADS,
        prefix_length=len(prompt.prefix_ids),
        level_ids=[list(ids) for ids in template.level_ids],
        questions=Prompts(0).questions(1, prompt),
        pp128=[],
        pp512=[],
    )
    done = start_process(workspace, row, request)
    return done.load_s, done.measurement.peak_rss_mb


def table(ours: Sequence[Ours], theirs: Sequence[Theirs]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| bundle | prepared | ready s | first decision s | peak RSS MB | anonymous MB, peak "
        "| anonymous MB | mapped MB | disk MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    figures = ("peak_mb", "peak_anonymous_mb", "anonymous_mb", "mapped_mb")
    for row in ours:
        name = row.bundle.removeprefix("start-")
        times = " | ".join(f"{row.middle(time):.2f}" for time in ("ready_s", "decided_s"))
        memory = " | ".join(f"{row.middle(figure):.0f}" for figure in figures)
        prepared = "yes" if row.prepared else "no"
        lines.append(f"| {name} | {prepared} | {times} | {memory} | {row.disk_mb:.0f} |")
    if theirs:
        lines += ["", "| peer | first decision s | peak RSS MB |", "| --- | --- | --- |"]
    lines.extend(
        f"| {peer.name} | {median(peer.decided_s):.2f} | {median(peer.peak_mb):.0f} |"
        for peer in theirs
    )
    if theirs:
        best = min(theirs, key=lambda peer: median(peer.decided_s))
        shares = [
            f"{row.bundle.removeprefix('start-')} "
            f"{row.middle('decided_s') / median(best.decided_s):.2f}"
            for row in ours
            if row.prepared
        ]
        lines += ["", f"First decision, prepared, as a share of the fastest peer's ({best.name}):"]
        lines.append(f"{', '.join(shares)}. The target is below 0.5.")
    return "\n".join(lines) + "\n"


def page(document: dict[str, object], ours: Sequence[Ours], theirs: Sequence[Theirs]) -> str:
    """Return the page that is read."""
    described = document["machine"]
    if not isinstance(described, dict):
        raise TypeError("machine: must be an object")
    return (
        f"# Memory and start, {described['kind']}\n\n"
        f"{described['cpu']}, {described['cores']} cores; {THREADS} threads; files in the page "
        f"cache; a prompt of {ours[0].prompt_tokens} tokens, 82 of them from the snapshot; "
        f"medians of {len(ours[0].starts)} fresh processes. Ready: a question may come. Anonymous "
        "memory is what the system cannot take back; mapped files it can.\n\n" + table(ours, theirs)
    )


def main() -> None:
    """Measure in rounds, everything in turn, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--name", default=f"{machine_kind()}-memory", help="of the files in results/"
    )
    arguments = parser.parse_args()
    workspace: Workspace = arguments.work
    ours = make_bundles(workspace)
    rows = {
        row.name: row for row in ROWS if row.module in PEERS and workspace.venv(row.venv).exists()
    }
    theirs = [Theirs(name) for name in rows]
    before = machine()
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
        for row in ours:
            row.starts.append(start(workspace, row))
        for peer in theirs:
            seconds, peak = start_peer(workspace, rows[peer.name])
            peer.decided_s.append(seconds)
            peer.peak_mb.append(peak)
    document: dict[str, object] = {
        "machine": before,
        "settings": {"threads": THREADS, "rounds": arguments.rounds, "question": QUESTION},
        "ours": [asdict(row) for row in ours],
        "peers": [asdict(peer) for peer in theirs],
    }
    write_results(arguments.name, document, page(document, ours, theirs))


if __name__ == "__main__":
    main()
