"""One question on its way: decide here, then answer here, hand off, or queue."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from foggen_runtime.ask.verdict import Threshold, judge
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
from foggen_runtime.model.local_model import LocalModel
from foggen_runtime.result import Result, Timing, Usage
from foggen_runtime.text.choice import parse_choice


@dataclass(frozen=True)
class Request:
    """A question, and how to answer it.

    Attributes:
        question: The text as the user typed it.
        route: Who may answer.
        decoding: How to decode.
        stream: Whether the cloud is to answer piece by piece.
        cancellation: Ends a wait for the cloud from another thread.
    """

    question: str
    route: Route
    decoding: Decoding
    stream: bool = False
    cancellation: Cancellation | None = None


class Asking:
    """Runs one question; `result` fills up on the way and is complete when `run` ends."""

    def __init__(self, model: LocalModel, services: Services, blank: Result) -> None:
        """Prepare.

        Args:
            model: Decides and answers.
            services: The policy, and what it needs: cloud, outbox, log.
            blank: A result with id, tau and the bundle filled in.
        """
        self._model = model
        self._services = services
        self._policy = services.policy
        self.result = blank
        self._timing = Timing()
        self._started = time.perf_counter()
        self._passes = model.engine.forward_passes
        self._decoder: Decoder | None = None
        self._decision: Decision | None = None

    def run(self, request: Request) -> Iterator[str | Result]:
        """Yield the answer's text as it comes, and the result last.

        Raises:
            QuestionError: The question is empty or not valid Unicode.
            CancelledError: The request's `cancellation` ended a wait for the cloud.
        """
        manifest = self._model.bundle.manifest
        prompt = self._model.tokenizer.prompt_ids(manifest.prompt, request.question)
        try:
            yield from self._answer_somehow(prompt, request)
        except (GeneratorExit, CancelledError):
            self._note("cancelled")
            self._finish(request.question)
            raise
        self._finish(request.question)
        yield self.result

    def _answer_somehow(self, prompt: list[int], request: Request) -> Iterator[str]:
        """Answer here, in the cloud, or not."""
        route, question = request.route, request.question
        if route == "cloud_only":
            self._note("mode")
        else:
            if route == "auto" and self._services.handoff:
                self._services.handoff.warm(question)
            yield from self._run_locally(prompt, route, request.decoding)
        if self.result.source == "none" and route != "local_only":
            self.result = replace(self.result, deferral=self.result.reason)
            yield from self._hand_off(request)

    def _finish(self, question: str) -> None:
        """Stop the clock, and log."""
        self._timing = replace(self._timing, total=self._elapsed())
        self.result = replace(self.result, timing_ms=self._timing)
        if self._services.log:
            try:
                self._services.log.write(question, self.result)
            except StateError as error:
                # An answer is worth more than its record.
                detail = "; ".join(filter(None, (self.result.detail, str(error))))
                self.result = replace(self.result, detail=detail)

    def _run_locally(self, prompt: list[int], route: Route, decoding: Decoding) -> Iterator[str]:
        """Decide, and answer if that is what the decision or the route says."""
        self._timing = replace(self._timing, tokenize=self._elapsed())
        if len(prompt) > self._model.room:
            detail = f"the prompt has {len(prompt)} tokens, the bundle takes {self._model.room}"
            self._note("context_length", detail)
            return
        try:
            decoder = self._model.decoder(decoding)
            decision = decoder.decide(prompt[self._model.prefix_length :])
            self._decoder, self._decision = decoder, decision
            self._judge(decision, route, decoding)
            elapsed = self._elapsed()
            self._timing = replace(self._timing, prefill=decision.prefill_ms, decision=elapsed)
            self._count(len(prompt), decision.tokens)
            if self._answers_here(decision, route):
                yield from self._answer(decoder, decision, decoding.max_new_tokens)
        except EngineError as error:
            self._note("local_error", str(error))

    def _judge(self, decision: Decision, route: Route, decoding: Decoding) -> None:
        """Compare with tau, and note why."""
        template = self._model.bundle.manifest.template
        # Other decodings write what the model wants: a level they reached was meant.
        minimum = template.min_template_probability if decoding.mode == "constrained" else 0.0
        threshold = Threshold(self.result.tau, self.result.tau_on, minimum)
        verdict = judge(decision, template, threshold)
        if decision.reading:
            self.result = replace(
                self.result,
                level_probabilities=decision.reading.level_probabilities,
                template_probability=decision.reading.template_probability,
            )
        self.result = replace(
            self.result,
            confidence=verdict.confidence,
            expected_confidence=verdict.expected_confidence,
        )
        unsure_here = route == "local_only" and verdict.reason == "below_tau"
        self._note("mode" if unsure_here else verdict.reason, verdict.detail)

    def _answers_here(self, decision: Decision, route: Route) -> bool:
        if route == "local_only":
            return decision.level is not None
        return self.result.reason == "confident"

    def _answer(self, decoder: Decoder, decision: Decision, limit: int) -> Iterator[str]:
        """Decode the answer; without the template's answer prefix there is none."""
        decided = self._elapsed()
        prefix = self._model.bundle.manifest.template.answer_prefix_ids
        eos = self._model.bundle.manifest.model.eos_token_ids
        tokens: list[int] = []
        text = ""
        stream = self._model.tokenizer.stream()
        for token in decoder.answer(limit):
            tokens.append(token)
            if tuple(tokens[: len(prefix)]) != prefix[: len(tokens)]:
                break
            if len(tokens) > len(prefix) and token not in eos:
                piece = stream.feed(token)
                yield from _nonempty(piece if text else piece.lstrip())
                text = (text + piece).lstrip()
        tail = stream.finish()
        yield from _nonempty(tail)
        self._count(self.result.usage.prompt_tokens, (*decision.tokens, *tokens))
        self._timing = replace(self._timing, answer=self._elapsed() - decided)
        if tuple(tokens[: len(prefix)]) != prefix:
            self._note("malformed", "the output left the template after the level")
            return
        answer = (text + tail).strip()
        self.result = replace(
            self.result,
            source="local",
            answer=answer,
            choice=parse_choice(answer),
            finish_reason="stop" if tokens[-1] in eos else "length",
        )

    def _hand_off(self, request: Request) -> Iterator[str]:
        """Ask the cloud; when it fails, say so in the result and do what the policy says."""
        started = self._elapsed()
        begun = False
        try:
            for event in self._ask_cloud(request):
                if isinstance(event, CloudAnswer):
                    self._take(event, request.question)
                else:
                    begun = True
                    yield event
        except HandoffError as error:
            self._note(error.reason, str(error))
            failed = True
        else:
            failed = False
        finally:
            if self._services.handoff:
                self._timing = replace(self._timing, handoff=self._elapsed() - started)
        if failed:
            yield from self._fall_back(request, begun=begun)

    def _ask_cloud(self, request: Request) -> Iterator[str | CloudAnswer]:
        handoff = self._services.handoff
        if handoff is not None:
            ask = handoff.stream if request.stream else handoff.complete
            yield from ask(request.question, self.result.id, request.cancellation)
        elif self._policy.on_unreachable != "fail":
            raise HandoffError("no_cloud", "no cloud is set")

    def _take(self, answer: CloudAnswer, question: str) -> None:
        if self._services.handoff:
            self.result = self._services.handoff.answered(self.result, question, answer)

    def _fall_back(self, request: Request, *, begun: bool) -> Iterator[str]:
        """Do what the policy says where the cloud gave no answer.

        Args:
            request: What was asked.
            begun: Whether a part of the cloud's answer was yielded: a local one cannot follow it.
        """
        rule, decision = self._policy.on_unreachable, self._decision
        if rule == "queue":
            self._queue(request.question)
        if rule != "answer_locally" or begun:
            return
        if self._decoder and decision and decision.level is not None:
            try:
                limit = request.decoding.max_new_tokens
                yield from self._answer(self._decoder, decision, limit)
            except EngineError as error:
                self._note("local_error", str(error))

    def _queue(self, question: str) -> None:
        """Put the question into the outbox as it would be sent, unless it must not be."""
        outbox = self._services.outbox
        if outbox is None:
            return
        timing = replace(self._timing, total=self._elapsed())
        queued = replace(self.result, source="queued", timing_ms=timing)
        try:
            outbox.accept(self._policy.redacted(question), queued)
        except HandoffError as error:
            self._note(error.reason, str(error))
        except StateError as error:
            reason = "outbox_full" if isinstance(error, OutboxFullError) else "outbox_failed"
            self._note(reason, f"{error} ({self.result.reason}: {self.result.detail})")
        else:
            self.result = queued

    def _count(self, prompt_tokens: int, tokens: tuple[int, ...]) -> None:
        usage = Usage(
            prompt_tokens=prompt_tokens,
            cached_prompt_tokens=self._model.prefix_length,
            forward_passes=self._model.engine.forward_passes - self._passes,
            decoded_tokens=len(tokens),
        )
        self.result = replace(self.result, usage=usage)

    def _note(self, reason: str, detail: str | None = None) -> None:
        self.result = replace(self.result, reason=reason, detail=detail)

    def _elapsed(self) -> float:
        return 1e3 * (time.perf_counter() - self._started)


def _nonempty(piece: str) -> Iterator[str]:
    if piece:
        yield piece
