"""Where the time of our passes goes, by operator, from onnxruntime's own profiler.

Two passes: the one that decides (a question after the cached prefix, with the draft) and the one
that decodes a token. The profiler costs time, and past and present are not one buffer here as
they are in the engine, so attention also copies the cache: shares matter, not sums.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import machine, machine_kind, write_results
from benchmarks.prompts import QUESTION_TOKENS, Prompts
from benchmarks.workspace import Workspace, workspace_argument
from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.decide.trie import TemplateTrie
from foggen_runtime.model.quiet_onnxruntime import ort

THREADS = 2
REPETITIONS = 8
BUNDLES = ("foggen-int4", "foggen-int8")
NOTE = "Shares matter, not sums: the profiler costs time, and attention copies the cache here."


@dataclass(frozen=True)
class Pass:
    """One forward pass.

    Attributes:
        name: As the table shows it.
        cached: Tokens in the cache before it.
        fed: Tokens it feeds.
    """

    name: str
    cached: int
    fed: int


def passes(manifest: Manifest) -> list[Pass]:
    """Return the passes that matter, as long as they are in the comparison."""
    prefix = len(manifest.prompt.prefix_ids)
    draft = len(TemplateTrie.of(manifest.template).drafts[0])
    question = QUESTION_TOKENS - prefix + draft
    return [Pass("decision", prefix, question), Pass("one token", QUESTION_TOKENS, 1)]


def profile(bundle: Path, manifest: Manifest, work: Pass) -> dict[str, float]:
    """Return the milliseconds of a pass by operator, the mean of some repetitions."""
    with tempfile.TemporaryDirectory() as directory:
        options = ort.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.enable_profiling = True
        options.profile_file_prefix = f"{directory}/profile"
        session = ort.InferenceSession(bundle / manifest.graph.file, options)
        inputs = _inputs(manifest, work)
        for _ in range(1 + REPETITIONS):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return _by_operator(events)


def _by_operator(events: list[dict[str, object]]) -> dict[str, float]:
    """Sum the kernels' times by operator, the first run left out as warm-up."""
    runs = [event for event in events if event["name"] == "model_run"]
    begin = sorted(_number(event["ts"]) for event in runs)[1]
    times: defaultdict[str, float] = defaultdict(float)
    for event in events:
        arguments = event.get("args")
        kernel = str(event["name"]).endswith("_kernel_time") and isinstance(arguments, dict)
        if kernel and isinstance(arguments, dict) and _number(event["ts"]) >= begin:
            times[str(arguments["op_name"])] += _number(event["dur"]) / 1e3 / REPETITIONS
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def _number(value: object) -> float:
    return float(str(value))


def _inputs(manifest: Manifest, work: Pass) -> dict[str, np.ndarray]:
    model = manifest.model
    ids = Prompts(seed=0).texts(1, work.fed)
    past = np.zeros((1, model.num_key_value_heads, work.cached, model.head_dim), np.float32)
    mask = np.ones((1, work.cached + work.fed), np.int64)
    names = [
        f"past_key_values.{layer}.{part}"
        for layer in range(model.num_hidden_layers)
        for part in ("key", "value")
    ]
    return {
        "input_ids": np.array(ids, np.int64),
        "attention_mask": mask,
        **dict.fromkeys(names, past),
    }


def markdown(about: dict[str, object], profiles: dict[str, dict[str, float]]) -> str:
    """Write one table for each pass."""
    parts = [f"# Operators, {about['kind']}", f"{about['cpu']}, {THREADS} threads. {NOTE}"]
    for title, times in profiles.items():
        total = sum(times.values())
        lines = ["| operator | ms | share |", "| --- | --- | --- |"]
        lines += [
            f"| {name} | {spent:.2f} | {100 * spent / total:.1f} % |"
            for name, spent in times.items()
            if spent >= total / 200
        ]
        parts += [f"## {title}: {total:.0f} ms", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Profile and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    parser.add_argument("--name", default=machine_kind(), help="of the files in results/")
    arguments = parser.parse_args()
    workspace: Workspace = arguments.work
    profiles: dict[str, dict[str, float]] = {}
    for name in BUNDLES:
        bundle = workspace.model(name)
        manifest = Manifest.load(bundle)
        for work in passes(manifest):
            title = f"{name}, {work.name} ({work.fed} after {work.cached})"
            profiles[title] = profile(bundle, manifest, work)
    about = machine()
    document = {"machine": about, "milliseconds": profiles}
    write_results(f"{arguments.name}-operators", document, markdown(about, profiles))


if __name__ == "__main__":
    main()
