"""Asking one question, in numbered phases.

1. Wait for the engine, and make the prompt.
2. Decide, and judge the decision: do we keep the question?
3. If it is, answer here.
4. If not, hand off to the cloud.
5. If the cloud fails, fall back: answer here after all, queue, or give up.
6. Make the result, and log it.

Each phase ends in a value: a decision with its verdict (`Decided`), the tokens of an answer
(`Written`), and how the question stands (`Ending`). The last phase makes the result of them.
"""

import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import filterfalse, tee
from typing import Protocol, Self

from foggen_runtime.ask.model import CountingEngine, Model
from foggen_runtime.ask.verdict import Verdict, judge
from foggen_runtime.bundle.manifest import ConfidenceKind
from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.decide.plain import Decision, Decoder
from foggen_runtime.errors import (
    CancelledError,
    EngineError,
    HandoffError,
    OutboxFullError,
    StateError,
)
from foggen_runtime.handoff.policy import Route as Route
from foggen_runtime.handoff.services import Services
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.result import BundleRef, Result, Source, Timing, Usage
from foggen_runtime.text.choice import parse_choice

_KEPT_DECODERS = 16


@dataclass(frozen=True)
class Request:
    """A question, and how to answer it.

    Attributes:
        question: The text as the user typed it.
        route: Who may answer.
        decoding: How to decode.
        stream: Whether the cloud should answer piece by piece.
        cancellation: Lets another thread end a wait for the cloud.
    """

    question: str
    route: Route
    decoding: Decoding
    stream: bool = False
    cancellation: Cancellation | None = None


@dataclass(frozen=True)
class Tau:
    """What a confidence must reach for us to keep the question; the fields are `Result`'s."""

    value: float
    source: str
    on: ConfidenceKind


class TurnTaking(Protocol):
    """Who may use the engine: one question at a time."""

    def take(self) -> int:
        """Wait for the engine, and return the turn's number: one more than the turn before."""

    def give(self) -> None:
        """Let the next question have the engine."""


class Alone:
    """Turns for a single caller, who never has to wait."""

    def __init__(self) -> None:
        self._number = 0

    def take(self) -> int:
        """Return the turn's number: one more than the turn before."""
        self._number += 1
        return self._number

    def give(self) -> None:
        """Do nothing: nobody is waiting."""


@dataclass(frozen=True)
class Means:
    """What all questions have in common.

    Attributes:
        model: Decides and answers.
        services: The policy, and what it needs: cloud, outbox, log.
        turns: Who may use the model's engine.
        bundle: Names the model in results.
        decoder: Returns the model's decoder for a way of decoding; the last few are kept.
    """

    model: Model
    services: Services
    turns: TurnTaking
    bundle: BundleRef
    decoder: Callable[[Decoding], Decoder]

    @classmethod
    def of(cls, model: Model, services: Services, turns: TurnTaking | None = None) -> Self:
        """Ask a model under a policy.

        Args:
            model: Decides and answers.
            services: The policy, and what it needs.
            turns: Who may use the engine; None if only one thread asks.
        """
        manifest = model.bundle.manifest
        bundle = BundleRef(manifest.model.name, manifest.sha256)
        decoder = lru_cache(maxsize=_KEPT_DECODERS)(model.decoder)
        return cls(model, services, turns or Alone(), bundle, decoder)


def ask(means: Means, request: Request, tau: Tau) -> Iterator[str | Result]:
    """Yield the answer's text as it comes, and the result last.

    Raises:
        QuestionError: The question is empty or not valid Unicode.
        CancelledError: The request's `cancellation` ended a wait for the cloud.
    """
    # 1. The clock starts once the question has the engine; an invalid question is not logged.
    turn = _Turn(means.turns, means.model.engine)
    if request.route != "cloud_only":
        turn.take()
    try:
        asked = _Question(means, request, tau, turn)
        asked.tokenize()
        try:
            ending = yield from asked.answer()
        except (GeneratorExit, CancelledError):
            asked.finish(Ending("cancelled"))
            raise
        # 6.
        yield asked.finish(ending)
    finally:
        turn.give()


class _Turn:
    """One question's turns at the engine, and the passes that it spends in them."""

    def __init__(self, turns: TurnTaking, engine: CountingEngine) -> None:
        self._turns = turns
        self._engine = engine
        self._number: int | None = None
        self._held = False
        self._spent = 0
        self._passes_before = 0

    def take(self) -> bool:
        """Wait for the engine; return whether its cache is still as this question left it."""
        if self._held:
            return True
        last, self._number = self._number, self._turns.take()
        self._held = True
        self._passes_before = self._engine.forward_passes - self._spent
        return last is not None and self._number == last + 1

    def passes(self) -> int:
        """Return the passes spent so far; to be called during a turn."""
        return self._engine.forward_passes - self._passes_before

    def give(self) -> None:
        """End the turn, if there is one."""
        if self._held:
            self._spent = self.passes()
            self._held = False
            self._turns.give()


@dataclass(frozen=True)
class Decided:
    """What the model said about its own confidence.

    Attributes:
        decoder: Continues with the answer.
        decision: What was written, and how sure the model was of it.
        verdict: What follows from that.
        passes: Forward passes spent.
        ms: Milliseconds from the question to here.
    """

    decoder: Decoder
    decision: Decision
    verdict: Verdict
    passes: int
    ms: float


@dataclass(frozen=True)
class Written:
    """The answer's tokens, the template's prefix included.

    Attributes:
        tokens: How many there are.
        passes: Forward passes spent on the question in total.
        ms: Milliseconds they took.
    """

    tokens: int
    passes: int
    ms: float


@dataclass(frozen=True)
class Ending:
    """How a question stands after a phase: some of `Result`'s fields, and the cloud's answer."""

    reason: str
    detail: str | None = None
    source: Source = "none"
    answer: str | None = None
    finish_reason: str | None = None
    cloud: CloudAnswer | None = None


class _Question:
    """One question's phases; each sets what it found out, exactly once."""

    def __init__(self, means: Means, request: Request, tau: Tau, turn: _Turn) -> None:
        self._model = means.model
        self._decoder_for = means.decoder
        self._manifest = means.model.bundle.manifest
        self._services = means.services
        self._bundle = means.bundle
        self._request = request
        self._tau = tau
        self._turn = turn
        self._id = uuid.uuid4().hex
        self._started = time.perf_counter()
        self._prompt: list[int] = []
        self._tokenize_ms: float | None = None
        self._decided: Decided | None = None
        self._written: Written | None = None
        self._deferral: str | None = None
        self._handoff_ms: float | None = None

    def tokenize(self) -> None:
        """Make the prompt; an invalid question raises."""
        prompt = self._manifest.prompt
        self._prompt = self._model.tokenizer.prompt_ids(prompt, self._request.question)

    def answer(self) -> Generator[str, None, Ending]:
        """Answer here, in the cloud, or not at all."""
        route, handoff = self._request.route, self._services.handoff
        if route == "cloud_only":
            return (yield from self._hand_off(Ending("mode")))
        if route == "auto" and handoff:
            handoff.warm(self._request.question)  # it connects while the model decides
        ending = yield from self._ask_here()
        if ending.source == "none" and route != "local_only":
            return (yield from self._hand_off(ending))
        return ending

    def _ask_here(self) -> Generator[str, None, Ending]:
        """2. Decide, and answer if the verdict or the route says so."""
        self._tokenize_ms = self._elapsed()
        count, room = len(self._prompt), self._model.room
        try:
            if count > room:
                detail = f"the prompt has {count} tokens, the bundle takes {room}"
                return Ending("context_length", detail)
            self._decided = decided = self._decide()
            kept = decided.verdict.reason == "confident"
            reason: str = decided.verdict.reason
            if self._request.route == "local_only":
                kept = decided.decision.level is not None
                reason = "mode" if reason == "below_tau" else reason
            ending = Ending(reason, decided.verdict.detail)
            return (yield from self._write(decided, ending)) if kept else ending
        except EngineError as error:
            return Ending("local_error", str(error))
        finally:
            self._turn.give()

    def _decide(self) -> Decided:
        decoding, tau = self._request.decoding, self._tau
        decoder = self._decoder_for(decoding)
        decision = decoder.decide(self._prompt[self._model.prefix_length :])
        forced = decoding.mode == "constrained"
        verdict = judge(decision, self._manifest.template, tau.value, tau.on, forced=forced)
        return Decided(decoder, decision, verdict, self._turn.passes(), self._elapsed())

    def _write(self, decided: Decided, ending: Ending) -> Generator[str, None, Ending]:
        """3. Decode the answer; there is none unless the template's answer prefix was written."""
        begun = self._elapsed()
        # If another question had the engine in between, the cache no longer holds this one.
        decoder = decided.decoder if self._turn.take() else self._decide().decoder
        prefix = self._manifest.template.answer_prefix_ids
        eos = self._manifest.model.eos_token_ids
        ids = decoder.answer(self._request.decoding.max_new_tokens)
        tokens = list(_common_start(ids, prefix))
        text = ""
        if tuple(tokens) == prefix:
            rest, copy = tee(ids)
            for piece in self._model.tokenizer.pieces(filterfalse(eos.__contains__, rest)):
                shown = piece if text else piece.lstrip()
                if shown:
                    yield shown
                text += shown
            tokens.extend(copy)
        self._written = Written(len(tokens), self._turn.passes(), self._elapsed() - begun)
        if tuple(tokens[: len(prefix)]) != prefix:
            return Ending("malformed", "the output left the template after the level")
        finish_reason = "stop" if tokens[-1] in eos else "length"
        return replace(ending, source="local", answer=text.strip(), finish_reason=finish_reason)

    def _hand_off(self, deferred: Ending) -> Generator[str, None, Ending]:
        """4. Ask the cloud; when it fails, do what the policy says."""
        self._deferral = deferred.reason
        request, handoff = self._request, self._services.handoff
        if handoff is None:
            if self._services.policy.on_unreachable == "fail":
                return deferred
            return (yield from self._fall_back(Ending("no_cloud", "no cloud is set")))
        ask_cloud = handoff.stream if request.stream else handoff.complete
        ending, failed, begun, started = deferred, None, False, self._elapsed()
        try:
            for event in ask_cloud(request.question, self._id, request.cancellation):
                if isinstance(event, CloudAnswer):
                    ending = Ending(deferred.reason, cloud=event)
                else:
                    begun = True
                    yield event
        except HandoffError as error:
            failed = Ending(error.reason, str(error))
        finally:
            self._handoff_ms = self._elapsed() - started
        if failed is None:
            return ending
        # A local answer cannot follow half of the cloud's.
        return (yield from self._fall_back(failed, answer_here=not begun))

    def _fall_back(
        self, failed: Ending, *, answer_here: bool = True
    ) -> Generator[str, None, Ending]:
        """5. Do what the policy says when the cloud gave no answer."""
        rule, decided = self._services.policy.on_unreachable, self._decided
        if rule == "queue":
            return self._queue(failed)
        if rule != "answer_locally" or not answer_here or decided is None:
            return failed
        if decided.decision.level is None:
            return failed
        try:
            return (yield from self._write(decided, failed))
        except EngineError as error:
            return Ending("local_error", str(error))
        finally:
            self._turn.give()

    def _queue(self, failed: Ending) -> Ending:
        """Put the question into the outbox as it would be sent, unless it must not be sent."""
        outbox, policy = self._services.outbox, self._services.policy
        if outbox is None:
            return failed
        queued = replace(failed, source="queued")
        try:
            outbox.accept(policy.redacted(self._request.question), self._result(queued))
        except HandoffError as error:
            return Ending(error.reason, str(error))
        except StateError as error:
            reason = "outbox_full" if isinstance(error, OutboxFullError) else "outbox_failed"
            return Ending(reason, f"{error} ({failed.reason}: {failed.detail})")
        return queued

    def finish(self, ending: Ending) -> Result:
        """6. Stop the clock, make the result, and log it."""
        result = self._result(ending)
        if self._services.log:
            try:
                self._services.log.write(self._request.question, result)
            except StateError as error:
                # An answer is worth more than its record.
                detail = "; ".join(filter(None, (result.detail, str(error))))
                return replace(result, detail=detail)
        return result

    def _result(self, ending: Ending) -> Result:
        decided = self._decided
        reading = decided.decision.reading if decided else None
        result = Result(
            answer=ending.answer,
            source=ending.source,
            reason=ending.reason,
            tau=self._tau.value,
            tau_source=self._tau.source,
            bundle=self._bundle,
            id=self._id,
            deferral=self._deferral,
            choice=None if ending.answer is None else parse_choice(ending.answer),
            detail=ending.detail,
            confidence=decided.verdict.confidence if decided else None,
            level_probabilities=reading.level_probabilities if reading else None,
            expected_confidence=decided.verdict.expected_confidence if decided else None,
            template_probability=reading.template_probability if reading else None,
            finish_reason=ending.finish_reason,
            prefix_source=self._model.prefix_source,
            tau_on=self._tau.on,
            usage=self._usage(),
            timing_ms=self._timing(),
        )
        handoff = self._services.handoff
        if handoff and ending.cloud:
            return handoff.answered(result, self._request.question, ending.cloud)
        return result

    def _usage(self) -> Usage:
        decided, written = self._decided, self._written
        if decided is None:
            return Usage()
        return Usage(
            prompt_tokens=len(self._prompt),
            cached_prompt_tokens=self._model.prefix_length,
            forward_passes=written.passes if written else decided.passes,
            decoded_tokens=len(decided.decision.tokens) + (written.tokens if written else 0),
        )

    def _timing(self) -> Timing:
        decided, written = self._decided, self._written
        return Timing(
            tokenize=self._tokenize_ms,
            prefill=decided.decision.prefill_ms if decided else None,
            decision=decided.ms if decided else None,
            answer=written.ms if written else None,
            handoff=self._handoff_ms,
            total=self._elapsed(),
        )

    def _elapsed(self) -> float:
        """Milliseconds since the question came in."""
        return 1e3 * (time.perf_counter() - self._started)


def _common_start(ids: Iterator[int], expected: Sequence[int]) -> Iterator[int]:
    """Yield ids as long as they are the expected ones, and the first that is not."""
    for one, other in zip(expected, ids, strict=False):
        yield other
        if one != other:
            return
