"""One question on its way: decide here, then answer here or hand off."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

from foggen_runtime.choice import parse_choice
from foggen_runtime.completions import CloudAnswer
from foggen_runtime.decoding import Decision, Decoder
from foggen_runtime.errors import EngineError, HandoffError
from foggen_runtime.local_model import Decoding, LocalModel
from foggen_runtime.result import Result, Timing, Usage
from foggen_runtime.template import Reading

Route = Literal["auto", "local_only", "cloud_only"]

# Asks the cloud: pieces of text as they come, if they do, and the whole answer last.
Handoff = Callable[[str], Iterator[str | CloudAnswer]]


class Asking:
    """Runs one question; `result` fills up on the way and is complete when `run` ends."""

    def __init__(self, model: LocalModel, handoff: Handoff | None, blank: Result) -> None:
        """Prepare.

        Args:
            model: Decides and answers.
            handoff: Asks the cloud, if there is one.
            blank: A result with tau and the bundle filled in.
        """
        self._model = model
        self._handoff = handoff
        self.result = blank
        self._timing = Timing()
        self._started = time.perf_counter()
        self._passes = model.engine.forward_passes

    def run(self, question: str, route: Route, decoding: Decoding) -> Iterator[str | Result]:
        """Yield the answer's text as it comes, and the result last.

        Raises:
            QuestionError: The question is empty or not valid Unicode.
        """
        prompt = self._model.tokenizer.prompt_ids(self._model.bundle.manifest.prompt, question)
        if route == "cloud_only":
            self._note("mode")
        else:
            yield from self._run_locally(prompt, route, decoding)
        if self.result.source == "none" and route != "local_only":
            yield from self._hand_off(question)
        self._timing = replace(self._timing, total=self._elapsed())
        self.result = replace(self.result, timing_ms=self._timing)
        yield self.result

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
        reading = decision.reading
        if reading:
            pairs = zip(template.level_values, reading.level_probabilities, strict=True)
            self.result = replace(
                self.result,
                level_probabilities=reading.level_probabilities,
                expected_confidence=sum(level * share for level, share in pairs),
                template_probability=reading.template_probability,
            )
        if decision.level is None:
            self._note("malformed", "the output left the template")
            return
        confidence = template.level_values[decision.level]
        self.result = replace(self.result, confidence=confidence)
        if reading and self._is_alien(reading, decoding):
            detail = (
                f"template_probability {reading.template_probability:.3g} is below the bundle's "
                f"minimum {template.min_template_probability:g}: no question for this model"
            )
            self._note("malformed", detail)
        elif confidence >= self.result.tau:
            self._note("confident")
        else:
            self._note("mode" if route == "local_only" else "below_tau")

    def _is_alien(self, reading: Reading, decoding: Decoding) -> bool:
        """Whether a constrained level means nothing: left alone, the model wrote otherwise."""
        minimum = self._model.bundle.manifest.template.min_template_probability
        return decoding.mode == "constrained" and reading.template_probability < minimum

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

    def _hand_off(self, question: str) -> Iterator[str]:
        """Ask the cloud; when it fails, say so in the result."""
        if self._handoff is None:
            return
        started = self._elapsed()
        try:
            for event in self._handoff(question):
                if isinstance(event, CloudAnswer):
                    self._take(event)
                else:
                    yield event
        except HandoffError as error:
            self._note(error.reason, str(error))
        self._timing = replace(self._timing, handoff=self._elapsed() - started)

    def _take(self, answer: CloudAnswer) -> None:
        usage = replace(
            self.result.usage,
            cloud_prompt_tokens=answer.prompt_tokens,
            cloud_completion_tokens=answer.completion_tokens,
        )
        self.result = replace(
            self.result,
            source="cloud",
            answer=answer.text,
            choice=parse_choice(answer.text),
            finish_reason=answer.finish_reason,
            usage=usage,
        )

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
