"""What the runtime does with a question, in enough detail to find where another one departs."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foggen_runtime import Decoding, EngineOptions, Foggen, OpenOptions
from foggen_runtime.arrays import Float32
from foggen_runtime.ask.asking import Route
from foggen_runtime.jsonio import from_json
from foggen_runtime.model.decoding import DecodingMode
from foggen_runtime.model.engine import Engine

FOLDER = Path(__file__).parent
QUESTIONS_FILE = FOLDER / "questions.json"
ROUTES: tuple[Route, ...] = ("local_only", "auto")
_MAX_NEW_TOKENS = 16
# What the decision decides. Timings, the bundle and who asked are no part of the contract.
_FIELDS = (
    *("answer", "choice", "source", "reason", "tau", "tau_source", "tau_on", "confidence"),
    *("level_probabilities", "expected_confidence", "template_probability", "finish_reason"),
    *("prefix_source", "usage"),
)


@dataclass(frozen=True)
class Trace:
    """One question asked.

    Attributes:
        question: Index into the questions.
        mode: How it was decoded.
        route: `local_only` answers whatever the confidence, `auto` only above tau.
        passes: For each forward pass, how many tokens it took and how many the cache then held.
        tokens: Everything written, from the confidence to the end.
        result: The fields of the result that the decision decides.
    """

    question: int
    mode: str
    route: str
    passes: tuple[tuple[int, ...], ...]
    tokens: tuple[int, ...]
    result: dict[str, Any]


@dataclass(frozen=True)
class Golden:
    """The traces of one bundle, and the onnxruntime that computed them."""

    recipe: str
    onnxruntime: str
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class Asked:
    """A question and its prompt."""

    question: str
    prompt_ids: tuple[int, ...]


@dataclass(frozen=True)
class Questions:
    """What is asked, and the ids it becomes; the same for every recipe."""

    questions: tuple[Asked, ...]


class RecordingEngine(Engine):
    """An engine that notes its passes."""

    passes: list[tuple[int, int]]

    def forward(self, ids: Sequence[int]) -> Float32:
        """Append tokens as `Engine` does."""
        logits = super().forward(ids)
        self.passes.append((len(ids), self.cache.length))
        return logits


def open_recording(bundle: Path) -> Foggen:
    """Open a bundle so that `record` can watch it."""
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    foggen = Foggen.open(bundle, options=options)
    foggen.model.engine.__class__ = RecordingEngine
    return foggen


def record(
    foggen: Foggen,
    questions: Sequence[str],
    modes: Sequence[DecodingMode],
    routes: Sequence[Route] = ROUTES,
) -> Iterator[Trace]:
    """Ask every question in each mode and by each route, one by one as the traces are taken."""
    for mode in modes:
        for index, question in enumerate(questions):
            for route in routes:
                yield _trace(foggen, (index, question), mode, route)


def _trace(foggen: Foggen, asked: tuple[int, str], mode: DecodingMode, route: Route) -> Trace:
    index, question = asked
    engine = foggen.model.engine
    if not isinstance(engine, RecordingEngine):
        raise TypeError("engine: must record, open it by open_recording")
    engine.passes = []
    decoding = Decoding(mode, _MAX_NEW_TOKENS)
    result = foggen.ask(question, route=route, decoding=decoding).to_dict()
    kept = {name: result[name] for name in _FIELDS}
    passes = tuple(engine.passes)
    tokens = _tokens(foggen, question, decoding)
    return Trace(index, mode, route, passes, tokens, kept)


def _tokens(foggen: Foggen, question: str, decoding: Decoding) -> tuple[int, ...]:
    """Return every token written, whatever the confidence."""
    model = foggen.model
    decoder = model.decoder(decoding)
    decision = decoder.decide(foggen.prompt_ids(question)[model.prefix_length :])
    if decision.level is None:
        return decision.tokens
    return (*decision.tokens, *decoder.answer(decoding.max_new_tokens))


def read_golden(name: str) -> Golden:
    """Read a file of traces."""
    return from_json(Golden, _load(FOLDER / f"{name}.json"), f"{name}.json")


def read_questions() -> Questions:
    """Read the stored questions."""
    return from_json(Questions, _load(QUESTIONS_FILE), QUESTIONS_FILE.name)


def _load(path: Path) -> object:
    value: object = json.loads(path.read_text(encoding="utf-8"))
    return value
