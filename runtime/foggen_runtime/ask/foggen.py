"""`Foggen`: ask a question, get an answer from here or from the cloud."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from foggen_runtime.ask.asking import Means, Request, Tau, TurnTaking, ask
from foggen_runtime.ask.model import Model
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.hub import locate_bundle
from foggen_runtime.errors import ConfigError
from foggen_runtime.handoff.policy import Policy, Route, check_route, check_tau
from foggen_runtime.handoff.services import Services
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.model.local_model import LocalModel, OpenOptions
from foggen_runtime.result import Result

if TYPE_CHECKING:
    from foggen_runtime.cloud.cancellation import Cancellation
    from foggen_runtime.cloud.endpoints import Cloud
    from foggen_runtime.handoff.flushing import FlushOptions, FlushReport


_DEFAULT_DECODING = Decoding()


class Foggen:
    """A loaded bundle and, optionally, a cloud to hand off to.

    Several threads may share it only if `turns` gives the engine to one question at a time.

    Attributes:
        model: The model on this device.
        policy: Who may answer, what may be sent, and what to do when the cloud fails.
    """

    def __init__(
        self,
        model: Model,
        cloud: "Cloud | None" = None,
        policy: Policy | None = None,
        turns: TurnTaking | None = None,
    ) -> None:
        self.model = model
        self.policy = policy or Policy()
        self._services = Services.open(cloud, self.policy)
        self._means = Means.of(model, self._services, turns)
        self._tau = self._default_tau()

    @classmethod
    def open(
        cls,
        path: str | Path,
        cloud: "Cloud | None" = None,
        options: OpenOptions | None = None,
        policy: Policy | None = None,
        turns: TurnTaking | None = None,
    ) -> Self:
        """Load a bundle.

        Args:
            path: A bundle's directory, or the hub id of a published one.
            cloud: Where to hand off; without one, deferred questions stay unanswered unless the
                policy says otherwise.
            options: How to open it.
            policy: Who may answer, what may be sent, and what to do when the cloud fails.
            turns: Who may use the engine; None if only one thread asks.

        Raises:
            BundleError: It is missing, altered, or of a version this runtime does not read.
            ConfigError: The policy needs a file that it does not name.
            StateError: A file the policy names cannot be used.
        """
        options = options or OpenOptions()
        bundle = Bundle.open(
            locate_bundle(path),
            verify=options.verify,
            with_snapshot=not options.recompute_prefix,
        )
        return cls(LocalModel(bundle, options), cloud, policy, turns)

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

    @property
    def turns(self) -> TurnTaking:
        """Who may use the model's engine."""
        return self._means.turns

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
            tau: Below this confidence the question is deferred; None takes the policy's, else the
                bundle's.
            route: `auto`, or only one side whatever the confidence; None takes the policy's.
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

        Closing the iterator cancels the work. If the cloud fails in the middle of its answer, the
        beginning has already been yielded: no local answer follows, and the result has none.
        `cancellation` lets another thread end a wait for the cloud: the iterator then raises
        CancelledError. The other arguments and errors are those of `ask`.
        """
        request = self._request(question, route, decoding)
        return self.run(replace(request, stream=True, cancellation=cancellation), tau)

    def run(self, request: Request, tau: float | None = None) -> Iterator[str | Result]:
        """As `stream`, for a request that itself says whether the cloud should stream.

        Raises:
            QuestionError: The question is empty or not valid Unicode.
            CancelledError: The request's `cancellation` ended a wait for the cloud.
            ConfigError: tau is not within [0, 1], or the route or the decoding is unknown.
        """
        if request.route != self.policy.route:  # the policy has checked its own
            check_route(request.route)
        mode = request.decoding.mode
        if self._tau.on == "expected" and mode != "constrained":
            raise ConfigError(
                "decoding: must be constrained with a bundle calibrated on expected confidence, "
                f"is {mode}"
            )
        if tau is None:
            return ask(self._means, request, self._tau)
        check_tau(tau)
        return ask(self._means, request, Tau(tau, "call", self._tau.on))

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
        """While a block runs, deliver what waits every `outbox.flush_seconds` of the policy.

        Does nothing if there is no cloud, or if the policy does not queue or says 0 seconds.
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
        return Request(question, route, decoding or _DEFAULT_DECODING)

    def _default_tau(self) -> Tau:
        """Return the tau of a call that names none: the policy's, else the bundle's."""
        routing = self.model.bundle.manifest.routing
        if self.policy.tau is not None:
            return Tau(self.policy.tau, self.policy.tau_source, routing.on)
        return Tau(routing.tau, "calibration" if routing.calibration else "default", routing.on)
