"""The Kotlin core beside the Python runtime: time to decision on the same bundle, interleaved.

Both processes stay open; each question goes to one and then to the other, and the one that begins
alternates. The JVM has a heap of 64 MB. Writes results/jvm.json and .md; needs the core's compiled
tests (`mvn -f android_demo/core test-compile`). Run as `python -m benchmarks.jvm BUNDLE`.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from benchmarks.machine import machine, write_results
from benchmarks.workspace import REPOSITORY
from foggen_runtime import EngineOptions, Foggen, OpenOptions

CORE = REPOSITORY / "android_demo" / "core"
JVM_OPTIONS = ("-Xmx64m", "-XX:MaxDirectMemorySize=256m")
_MAIN = "foggen.support.AskLinesKt"
_WARM_UP = 6


@dataclass(frozen=True)
class Row:
    """One runtime: medians over the questions, in milliseconds, and its process's peak RSS."""

    runtime: str
    onnxruntime: str
    decision_ms: float
    tokenize_ms: float
    prefill_ms: float
    answer_ms: float | None
    peak_rss_mb: float


class Runtime:
    """A process that answers a JSON string on each line with a result."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.results: list[dict[str, dict[str, float | None]]] = []
        self._process = process
        self._input, self._output = _pipe(process.stdin), _pipe(process.stdout)
        self.onnxruntime = self._output.readline().split()[-1]

    def ask(self, question: str) -> None:
        """Ask, and keep the result."""
        self._input.write(json.dumps(question) + "\n")
        self._input.flush()
        self.results.append(json.loads(self._output.readline()))

    def row(self) -> Row:
        """Summarize what was asked after the warm-up."""
        times = [result["timing_ms"] for result in self.results[_WARM_UP:]]
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))

        def median(phase: str) -> float | None:
            values = [value for each in times if (value := each[phase]) is not None]
            return statistics.median(values) if values else None

        return Row(
            runtime=self.name,
            onnxruntime=self.onnxruntime,
            decision_ms=median("decision") or 0.0,
            tokenize_ms=median("tokenize") or 0.0,
            prefill_ms=median("prefill") or 0.0,
            answer_ms=median("answer"),
            peak_rss_mb=int(peak) * 1024 / 1e6,
        )


def serve(bundle: Path, threads: int) -> None:
    """Answer questions on standard input, as the JVM's process does."""
    from foggen_runtime.model.engine import ONNXRUNTIME_VERSION

    options = OpenOptions(engine=EngineOptions(threads=threads), prepared=False)
    with Foggen.open(bundle, options=options) as foggen:
        print(f"ready {ONNXRUNTIME_VERSION}", flush=True)
        for line in sys.stdin:
            result = foggen.ask(json.loads(line), route="auto").to_dict()
            print(json.dumps(result), flush=True)


def questions(count: int) -> list[str]:
    """Return distinct multiple-choice questions of about 80 tokens."""
    options = ("the first of these", "the second one", "neither of the two", "both, in this order")
    return [
        f"Item {number * 7919 % 9973}: a train leaves at {number % 12 + 1} o'clock and travels for "
        f"{number % 50 + 3} hours at {number % 90 + 30} km/h through {number % 7 + 2} towns. Which "
        "of the following statements about its journey can be concluded from this alone?\n"
        + "\n".join(f"{letter}) {text}" for letter, text in zip("ABCD", options, strict=True))
        for number in range(count)
    ]


@contextmanager
def started(name: str, command: list[str]) -> Iterator[Runtime]:
    """Start a runtime's process, and end it."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=REPOSITORY) as process:
        yield Runtime(name, process)
        _pipe(process.stdin).close()


def java_command(bundle: Path, threads: int) -> list[str]:
    """Return the command of the JVM's process; Maven says where the dependencies are."""
    listed = CORE / "target" / "classpath.txt"
    subprocess.run(
        [
            "mvn",
            "-B",
            "-q",
            "-f",
            CORE,
            "dependency:build-classpath",
            f"-Dmdep.outputFile={listed}",
        ],
        check=True,
    )
    folders = [str(CORE / "target" / name) for name in ("classes", "test-classes")]
    path = ":".join([*folders, listed.read_text(encoding="utf-8").strip()])
    return ["java", *JVM_OPTIONS, "-cp", path, _MAIN, str(bundle), str(threads)]


def table(rows: list[Row], ratio: float) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| runtime | onnxruntime | decision ms | tokenize ms | prefill ms | peak RSS MB |",
        "|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {row.runtime} | {row.onnxruntime} | {row.decision_ms:.1f} | {row.tokenize_ms:.2f} "
        f"| {row.prefill_ms:.1f} | {row.peak_rss_mb:.0f} |"
        for row in rows
    )
    options = " ".join(JVM_OPTIONS)
    tail = f"\nMedians; the JVM (`{options}`) takes {ratio:.3f} of Python's time to decision.\n"
    return "\n".join(lines) + "\n" + tail


def main() -> None:
    """Measure both, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=lambda text: Path(text).resolve())
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.bundle, options.threads)
        return
    here = [sys.executable, "-m", "benchmarks.jvm", str(options.bundle)]
    here += ["--serve", "--threads", str(options.threads)]
    with ExitStack() as stack:
        python = stack.enter_context(started("Python", here))
        jvm = stack.enter_context(started("JVM", java_command(options.bundle, options.threads)))
        for number, question in enumerate(questions(options.questions + _WARM_UP)):
            for runtime in (python, jvm) if number % 2 else (jvm, python):
                runtime.ask(question)
        rows = [python.row(), jvm.row()]
    ratio = rows[1].decision_ms / rows[0].decision_ms
    document = {
        "machine": machine(),
        "bundle": options.bundle.name,
        "threads": options.threads,
        "questions": options.questions,
        "jvm_options": JVM_OPTIONS,
        "rows": [asdict(row) for row in rows],
        "ratio": ratio,
    }
    write_results("jvm", document, table(rows, ratio))
    print(table(rows, ratio))


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise RuntimeError("the process has no such pipe")
    return stream


if __name__ == "__main__":
    main()
