"""`Foggen`: ask a question, get an answer from here or from the cloud."""

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from foggen_runtime.ask.asking import Asking, Request
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.hub import locate_bundle
from foggen_runtime.errors import ConfigError
from foggen_runtime.handoff.policy import Policy, Route, check_route, check_tau
from foggen_runtime.handoff.services import Services
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.local_model import LocalModel, OpenOptions
from foggen_runtime.result import BundleRef, Result

if TYPE_CHECKING:
    from foggen_runtime.cloud.cancellation import Cancellation
    from foggen_runtime.cloud.endpoints import Cloud
    from foggen_runtime.handoff.flushing import FlushOptions, FlushReport


class Foggen:
    """A loaded bundle and, perhaps, a cloud to hand off to. Not for use by several threads.

    Attributes:
        model: The model on this device.
        policy: What it may do with questions.
    """

    def __init__(
        self, model: LocalModel, cloud: "Cloud | None" = None, policy: Policy | None = None
    ) -> None:
        self.model = model
        self.policy = policy or Policy()
        self._services = Services.open(cloud, self.policy)
        manifest = model.bundle.manifest
        self._bundle = BundleRef(manifest.model.name, manifest.sha256)

    @classmethod
    def open(
        cls,
        path: str | Path,
        cloud: "Cloud | None" = None,
        options: OpenOptions | None = None,
        policy: Policy | None = None,
    ) -> Self:
        """Load a bundle.

        Args:
            path: A bundle's directory, or the hub id of a published one.
            cloud: Where to hand off; without one, deferred questions stay unanswered unless the
                policy says otherwise.
            options: How to open it.
            policy: Who may answer, what may be sent, and what to do when the cloud fails.

        Raises:
            BundleError: It is missing, altered, or of a version this runtime does not read.
            ConfigError: The policy asks for a file that it does not name.
            StateError: A file the policy names cannot be used.
        """
        options = options or OpenOptions()
        bundle = Bundle.open(
            locate_bundle(path),
            verify=options.verify,
            with_snapshot=not options.recompute_prefix,
        )
        return cls(LocalModel(bundle, options), cloud, policy)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection to the cloud, and the policy's files."""
        self._services.close()

    def prompt_ids(self, question: str) -> list[int]:
        """Return the token ids of the whole prompt.

        Raises:
            QuestionError: The question is empty or not valid Unicode.
        """
        return self.model.tokenizer.prompt_ids(self.model.bundle.manifest.prompt, question)

    def ask(
        self,
        question: str,
        tau: float | None = None,
        route: Route | None = None,
        decoding: Decoding | None = None,
    ) -> Result:
        """Answer a question here, or hand it off.

        Args:
            question: The text as the user typed it.
            tau: Confidence below this defers; None takes the policy's, else the bundle's.
            route: `auto`, or one side only whatever the confidence; None takes the policy's.
            decoding: How to decode; None for the default.

        Raises:
            QuestionError: The question is empty or not valid Unicode.
            ConfigError: tau is not within [0, 1], or the route is unknown.
        """
        *_, result = self.run(self._request(question, route, decoding), tau)
        assert isinstance(result, Result)
        return result

    def stream(
        self,
        question: str,
        tau: float | None = None,
        route: Route | None = None,
        decoding: Decoding | None = None,
        cancellation: "Cancellation | None" = None,
    ) -> Iterator[str | Result]:
        """As `ask`, but yield the answer's text as it comes, and the result last.

        Closing the iterator cancels the work. When the cloud fails in the middle of its answer,
        what it said before has been yielded already: no local answer follows it, and the result
        has none. `cancellation` ends a wait for the cloud from another thread: the iterator then
        raises CancelledError. The other arguments and errors are those of `ask`.
        """
        request = self._request(question, route, decoding)
        return self.run(replace(request, stream=True, cancellation=cancellation), tau)

    def run(self, request: Request, tau: float | None = None) -> Iterator[str | Result]:
        """As `stream`, for a request that says itself whether the cloud is to stream.

        Raises:
            QuestionError: The question is empty or not valid Unicode.
            CancelledError: The request's `cancellation` ended a wait for the cloud.
            ConfigError: tau is not within [0, 1], or the route or decoding is unknown here.
        """
        self._check(request)
        return Asking(self.model, self._services, self._blank(tau)).run(request)

    def flush(self, options: "FlushOptions | None" = None) -> "FlushReport":
        """Deliver what waits in the outbox to the cloud.

        Raises:
            ConfigError: There is no cloud, or the policy does not queue.
            StateError: The outbox cannot be read or written.
        """
        from foggen_runtime.handoff.flushing import FlushOptions, flush

        outbox, handoff = self._services.outbox, self._services.handoff
        if outbox is None:
            raise ConfigError(
                f"on_unreachable: must be queue to flush, is {self.policy.on_unreachable}"
            )
        if handoff is None:
            raise ConfigError("cloud: must be set to flush, is not")
        options = options or FlushOptions(lease_seconds=self._services.lease_seconds)
        return flush(outbox, handoff, options)

    def flushing(self) -> AbstractContextManager[object]:
        """Deliver what waits every `outbox.flush_seconds` of the policy, as long as a block lasts.

        Does nothing where there is no cloud, or the policy does not queue or says 0 seconds.
        """
        outbox, handoff = self._services.outbox, self._services.handoff
        seconds = self.policy.outbox.flush_seconds
        if outbox is None or handoff is None or not seconds:
            return nullcontext()
        from foggen_runtime.handoff.periodic_flushing import PeriodicFlusher

        return PeriodicFlusher(outbox, handoff, seconds, self._services.lease_seconds)

    def _request(
        self,
        question: str,
        route: Route | None,
        decoding: Decoding | None,
    ) -> Request:
        route = self.policy.route if route is None else route
        return Request(question, route, decoding or Decoding())

    def _check(self, request: Request) -> None:
        check_route(request.route)
        mode = request.decoding.mode
        if self.model.bundle.manifest.routing.on == "expected" and mode != "constrained":
            raise ConfigError(
                "decoding: must be constrained with a bundle calibrated on expected confidence, "
                f"is {mode}"
            )

    def _blank(self, tau: float | None) -> Result:
        """Return an empty result with tau from the call, else the policy, else the bundle."""
        check_tau(tau)
        routing = self.model.bundle.manifest.routing
        source: str = "calibration" if routing.calibration else "default"
        chosen = routing.tau
        if tau is not None:
            chosen, source = tau, "call"
        elif self.policy.tau is not None:
            chosen, source = self.policy.tau, self.policy.tau_source
        return Result(
            answer=None,
            source="none",
            reason="",
            tau=chosen,
            tau_source=source,
            tau_on=routing.on,
            bundle=self._bundle,
            id=uuid.uuid4().hex,
            prefix_source=self.model.prefix_source,
        )
