"""What a decision costs beside AutoMix's: answer, then verify the answer with eight samples.

Both run on our engine with the same int4 bundle and cached system prompt, turn by turn, so only
the schemes differ. AutoMix's verification is taken three ways, from how it is published to the
kindest that a decoding loop of one's own could make of it.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.machine import machine, machine_kind, write_results
from benchmarks.prompts import Prompts
from benchmarks.workspace import Workspace, workspace_argument
from foggen_runtime.arrays import Float32
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.decide.plain import greedy_steps
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.local_model import LocalModel, OpenOptions

SAMPLES = 8
ANSWER_TOKENS = 5  # `Final answer: B` and the end of the turn
VERDICT_TOKENS = 2  # one word and the end of the turn
VERIFICATION = "Is this answer correct? Reply with Yes or No only."


class Schemes:
    """A model, and the two ways to decide with it."""

    def __init__(self, workspace: Workspace) -> None:
        options = OpenOptions(engine=EngineOptions(threads=2))
        self._model = LocalModel(Bundle.open(workspace.model("foggen-int4")), options)
        self._engine = self._model.engine
        prompt = self._model.bundle.manifest.prompt
        text = self._model.tokenizer.encode(prompt.question_prefix + VERIFICATION)
        # the prefix ends with the token that opens the user's turn
        self._verification = [prompt.prefix_ids[-1], *text, *prompt.suffix_ids]
        self._random = np.random.default_rng(0)

    def questions(self, count: int) -> list[list[int]]:
        """Return questions of random text, without the cached prefix."""
        questions = Prompts(seed=0).questions(count, self._model.bundle.manifest.prompt)
        return [question[self._model.prefix_length :] for question in questions]

    def ours(self, question: Sequence[int]) -> None:
        """Decide, then answer as far as AutoMix answers here."""
        decoder = self._model.decoder(Decoding())
        decoder.decide(question)
        for _ in decoder.answer(ANSWER_TOKENS):
            pass

    def as_published(self, question: Sequence[int]) -> None:
        """Verify by eight calls, each with the question, the answer and the verification prompt."""
        prompt = [*question, *self._answer(question), *self._verification]
        for _ in range(SAMPLES):
            self._engine.cache.truncate(self._model.prefix_length)
            self._sample(self._engine.forward(prompt)[-1])

    def keeping_the_answer(self, question: Sequence[int]) -> None:
        """Verify by eight calls that feed the verification prompt only."""
        self._answer(question)
        kept = self._engine.cache.length
        for _ in range(SAMPLES):
            self._engine.cache.truncate(kept)
            self._sample(self._engine.forward(self._verification)[-1])

    def keeping_all(self, question: Sequence[int]) -> None:
        """Feed the verification prompt once and sample eight verdicts from there."""
        self._answer(question)
        row = self._engine.forward(self._verification)[-1]
        kept = self._engine.cache.length
        for _ in range(SAMPLES):
            self._engine.cache.truncate(kept)
            self._sample(row)

    def _answer(self, question: Sequence[int]) -> list[int]:
        """Write an answer step by step, its last token left out of the cache."""
        self._engine.cache.truncate(self._model.prefix_length)
        first = int(self._engine.forward(question)[-1].argmax())
        return [first, *greedy_steps(self._engine, first, ANSWER_TOKENS - 1, eos_token_ids=())]

    def _sample(self, row: Float32) -> None:
        """Sample a verdict at temperature 1."""
        for _ in range(VERDICT_TOKENS - 1):
            row = self._engine.forward((self._draw(row),))[-1]
        self._draw(row)

    def _draw(self, row: Float32) -> int:
        weights = np.exp(row - row.max(), dtype=np.float64)
        return int(self._random.choice(len(row), p=weights / weights.sum()))


def measure(schemes: Schemes, count: int) -> dict[str, list[float]]:
    """Return the milliseconds of each scheme for each question, the schemes taking turns."""
    ways: dict[str, Callable[[Sequence[int]], None]] = {
        "foggen: decision and answer": schemes.ours,
        "AutoMix as published: every call feeds question, answer and prompt": schemes.as_published,
        "AutoMix, question and answer kept in the cache": schemes.keeping_the_answer,
        "AutoMix, verification prompt kept too": schemes.keeping_all,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for question in schemes.questions(count + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way(question)
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: measured[1:] for name, measured in times.items()}


def markdown(about: dict[str, object], times: dict[str, list[float]]) -> str:
    """Write medians, and the medians of the ratios of each question."""
    ours = next(iter(times.values()))
    lines = [
        f"# A decision beside AutoMix's, {about['kind']}",
        "",
        f"{about['cpu']}; int4 bundle with snapshot, 2 threads, {len(ours)} questions of 160 "
        f"tokens, the answer {ANSWER_TOKENS} tokens, {SAMPLES} samples of {VERDICT_TOKENS} tokens.",
        "",
        "| scheme | ms | beside ours |",
        "| --- | --- | --- |",
    ]
    for name, measured in times.items():
        ratios = [theirs / own for theirs, own in zip(measured, ours, strict=True)]
        medians = f"{statistics.median(measured):.0f} | {statistics.median(ratios):.2f}"
        lines.append(f"| {name} | {medians} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    workspace_argument(parser)
    parser.add_argument("--questions", type=int, default=15)
    parser.add_argument("--name", default=machine_kind(), help="of the files in results/")
    arguments = parser.parse_args()
    about = machine()
    times = measure(Schemes(arguments.work), arguments.questions)
    document = {"machine": about, "milliseconds": times}
    write_results(f"{arguments.name}-automix", document, markdown(about, times))


if __name__ == "__main__":
    main()
