"""One process of `loop_cost`: open a bundle one way, decide and answer prompts, print the times.

Run as `python -m benchmarks.loop_process host|loop BUNDLE THREADS`, prompts as JSON on standard
input; the first warms up.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.inner_loop import InnerLoop
from benchmarks.peers.measuring import peak_rss_mb
from foggen_exporter.graphs.loop import LOOP_FILE
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.local_model import LocalModel, OpenOptions

ANSWER_TOKENS = 64

Ask = Callable[[Sequence[int], int], object]


@dataclass(frozen=True)
class Times:
    """What one process measured, a number for each prompt but the first.

    Attributes:
        ready_s: From the start of opening to the first decision.
        decision_ms: Prompt to known level.
        answer_ms: Prompt to the last of 64 tokens after the level.
        peak_rss_mb: Of the whole process.
    """

    ready_s: float
    decision_ms: list[float]
    answer_ms: list[float]
    peak_rss_mb: float


def host(bundle: Path, threads: int) -> Ask:
    """Open the host's loop."""
    model = LocalModel(Bundle.open(bundle), OpenOptions(EngineOptions(threads=threads)))

    def ask(ids: Sequence[int], max_new_tokens: int) -> None:
        decoder = model.decoder(Decoding())
        decoder.decide(ids[model.prefix_length :])
        if max_new_tokens > 1:
            for _ in decoder.answer(max_new_tokens):
                pass

    return ask


def loop(bundle: Path, threads: int) -> Ask:
    """Open loop.onnx; one new token is less than the answer's prefix, so it only decides."""
    inner = InnerLoop(bundle / LOOP_FILE, threads)
    return lambda ids, max_new_tokens: inner.ask(ids, 0.0, max_new_tokens)


def milliseconds(ask: Ask, ids: Sequence[int], max_new_tokens: int) -> float:
    """Time one question."""
    start = time.perf_counter()
    ask(ids, max_new_tokens)
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Measure as the command line says."""
    way, bundle, threads = sys.argv[1:]
    prompts = json.load(sys.stdin)
    start = time.perf_counter()
    ask = {"host": host, "loop": loop}[way](Path(bundle), int(threads))
    ask(prompts[0], 1)
    ready = time.perf_counter() - start
    ask(prompts[0], ANSWER_TOKENS)
    decisions = [milliseconds(ask, ids, 1) for ids in prompts[1:]]
    answers = [milliseconds(ask, ids, ANSWER_TOKENS) for ids in prompts[1:]]
    print(json.dumps(asdict(Times(ready, decisions, answers, peak_rss_mb()))))


if __name__ == "__main__":
    main()
