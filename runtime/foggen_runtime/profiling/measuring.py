"""What happens inside one measuring process."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foggen_runtime.ask.asking import Route
from foggen_runtime.ask.foggen import Foggen
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.errors import ConfigError
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.engine import Engine, EngineOptions
from foggen_runtime.model.kernel_files import KernelFiles
from foggen_runtime.model.local_model import LocalModel, OpenOptions
from foggen_runtime.profiling.memory import memory_state, peak_rss_bytes
from foggen_runtime.profiling.operators import TracedPass, operator_times
from foggen_runtime.profiling.request import Moments, RoundReport, RoundRequest, TraceReport
from foggen_runtime.profiling.samples import Memory, QuestionSample
from foggen_runtime.profiling.schema import Settings
from foggen_runtime.profiling.sensors import Sensors
from foggen_runtime.result import Result

if TYPE_CHECKING:
    from foggen_runtime.cloud.endpoints import Cloud

_TRACED_QUESTIONS = 4
_TRACED_TOKENS = 8


def measure(request: RoundRequest, started: tuple[float, float]) -> RoundReport:
    """Open the bundle, ask its questions and stream tokens.

    Args:
        request: What to do.
        started: When the process began and when its imports were done.
    """
    settings, files = request.settings, KernelFiles(Path(request.root))
    sensors = Sensors(files)
    before = sensors.read()
    ready = time.monotonic()
    model = _open_model(request)
    foggen = Foggen(model, _cloud(request))
    opened = time.monotonic()
    loaded_memory = memory_state(files)
    loaded = time.monotonic()
    warm_up = [_ask(foggen, text, settings) for text in request.questions[: settings.warm_up]]
    warm = time.monotonic()
    samples = [_ask(foggen, text, settings) for text in request.questions[settings.warm_up :]]
    answered = time.monotonic()
    steady, peak = memory_state(files), peak_rss_bytes(files)
    foggen.close()
    streaming = time.monotonic()
    streams = _stream(model, settings)
    streamed = time.monotonic()
    after = sensors.read()
    first = (warm_up or samples)[0].decision_ms
    return RoundReport(
        prepared=_is_prepared(model),
        moments=Moments(
            *started, ready, opened, loaded, warm, answered, streaming, streamed, time.monotonic()
        ),
        prefix_ms=model.prefix_ms,
        first_decision=None if first is None else loaded + first / 1e3,
        questions=tuple(samples),
        streams=streams,
        memory=Memory(loaded_memory, steady, peak, peak_rss_bytes(files)),
        before=before,
        after=after,
    )


def trace(request: RoundRequest) -> TraceReport:
    """Trace the operators of some decisions, then of single tokens after the last one."""
    model = _open_model(request)
    engine = model.engine
    passes = [TracedPass("", 0)] * engine.forward_passes
    for number, question in enumerate(request.questions[: 1 + _TRACED_QUESTIONS]):
        prompt = model.tokenizer.prompt_ids(model.bundle.manifest.prompt, question)
        before = engine.forward_passes
        model.decoder(Decoding()).decide(prompt[model.prefix_length :])
        count = engine.forward_passes - before
        fed = (engine.cache.length - model.prefix_length) / count
        passes += [TracedPass("decision" if number else "", fed)] * count
    for _ in range(_TRACED_TOKENS):
        engine.forward(prompt[-1:])
    passes += [TracedPass("token", 1)] * _TRACED_TOKENS
    return TraceReport(operator_times(engine.end_trace(), passes))


def _open_model(request: RoundRequest) -> LocalModel:
    return LocalModel(Bundle.open(Path(request.bundle)), _open_options(request))


def _is_prepared(model: LocalModel) -> bool:
    return model.prepared is not None and model.prepared.status == "ready"


def _cloud(request: RoundRequest) -> "Cloud | None":
    if request.cloud is None:
        return None
    from foggen_runtime.cloud.endpoints import Cloud

    return Cloud(request.cloud.url, request.cloud.model, request.cloud.api_key)


def _open_options(request: RoundRequest) -> OpenOptions:
    settings = request.settings
    return OpenOptions(
        EngineOptions(
            threads=settings.threads,
            spinning=settings.spinning,
            kleidiai=settings.kleidiai,
            trace=Path(request.trace) if request.trace else None,
        )
    )


def _ask(foggen: Foggen, question: str, settings: Settings) -> QuestionSample:
    decoding = Decoding(max_new_tokens=settings.max_new_tokens)
    start = time.perf_counter()
    first_piece: float | None = None
    for event in foggen.stream(question, settings.tau, _route(settings), decoding):
        if isinstance(event, Result):
            return _sample(event, first_piece)
        if first_piece is None:
            first_piece = 1e3 * (time.perf_counter() - start)
    raise AssertionError("a stream ends with a Result")


def _route(settings: Settings) -> Route:
    return "local_only" if settings.route == "local_only" else "auto"


def _sample(result: Result, first_piece: float | None) -> QuestionSample:
    timing, local = result.timing_ms, result.source == "local"
    return QuestionSample(
        outcome="local" if local else "deferred",
        reason=result.deferral or result.reason,
        confidence=result.confidence,
        prompt_tokens=result.usage.prompt_tokens,
        cached_prompt_tokens=result.usage.cached_prompt_tokens,
        forward_passes=result.usage.forward_passes,
        tokenize_ms=timing.tokenize,
        prefill_ms=timing.prefill,
        decision_ms=timing.decision,
        letter_ms=first_piece if local else None,
        answer_ms=timing.answer,
        handoff_ms=timing.handoff,
        total_ms=timing.total,
    )


def _stream(model: LocalModel, settings: Settings) -> dict[str, tuple[float, ...]]:
    """Measure tokens per second as llama-bench does: random tokens, always an empty cache."""
    fed, written = settings.prompt_length, settings.generated_length
    engine, vocab = model.engine, model.bundle.manifest.model.vocab_size
    generator = random.Random(0)
    streams: dict[str, tuple[float, ...]] = {}
    for name, length, width in ((f"pp{fed}", fed, fed), (f"tg{written}", written, 1)):
        if not length:
            continue
        if length > engine.context_length:
            raise ConfigError(
                f"{name}: must fit the bundle's context of {engine.context_length} tokens"
            )
        ids = [generator.randrange(vocab) for _ in range(length)]
        rates = [_rate(engine, ids, width) for _ in range(1 + settings.repetitions)]
        streams[name] = tuple(rates[1:])
    return streams


def _rate(engine: Engine, ids: Sequence[int], width: int) -> float:
    """Return the tokens per second of feeding ids to an empty cache, `width` at a time."""
    engine.cache.truncate(0)
    start = time.perf_counter()
    for first in range(0, len(ids), width):
        engine.forward(ids[first : first + width])
    return len(ids) / (time.perf_counter() - start)
