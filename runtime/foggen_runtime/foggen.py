"""`Foggen`: ask a question, get an answer from here or from the cloud."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, get_args

from foggen_runtime.asking import Asking, Handoff, Route
from foggen_runtime.bundle import Bundle
from foggen_runtime.completions import CloudAnswer
from foggen_runtime.errors import ConfigError
from foggen_runtime.hub import locate_bundle
from foggen_runtime.local_model import Decoding, LocalModel, OpenOptions
from foggen_runtime.result import BundleRef, Result
from foggen_runtime.snapshot import SNAPSHOT_FILE

if TYPE_CHECKING:
    from foggen_runtime.cloud import Cloud, CloudClient


class Foggen:
    """A loaded bundle and, perhaps, a cloud to hand off to. Not for use by several threads.

    Attributes:
        model: The model on this device.
    """

    def __init__(self, model: LocalModel, cloud: "Cloud | None" = None) -> None:
        self.model = model
        self._client = _client(cloud) if cloud else None
        manifest = model.bundle.manifest
        self._bundle = BundleRef(manifest.model.name, manifest.sha256)

    @classmethod
    def open(
        cls, path: str | Path, cloud: "Cloud | None" = None, options: OpenOptions | None = None
    ) -> Self:
        """Load a bundle.

        Args:
            path: A bundle's directory, or the hub id of a published one.
            cloud: Where to hand off; without one, deferred questions stay unanswered.
            options: How to open it.

        Raises:
            BundleError: It is missing, altered, or of a version this runtime does not read.
        """
        options = options or OpenOptions()
        bundle = Bundle.open(
            locate_bundle(path),
            verify=options.verify,
            unused=SNAPSHOT_FILE if options.recompute_prefix else None,
        )
        return cls(LocalModel(bundle, options), cloud)

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
        """Close the connection to the cloud."""
        if self._client:
            self._client.close()

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
        route: Route = "auto",
        decoding: Decoding | None = None,
    ) -> Result:
        """Answer a question here, or hand it off.

        Args:
            question: The text as the user typed it.
            tau: Confidence below this defers; None takes the bundle's.
            route: `auto`, or one side only whatever the confidence.
            decoding: How to decode; None for the default.

        Raises:
            QuestionError: The question is empty or not valid Unicode.
            ConfigError: tau is not within [0, 1], or the route is unknown.
        """
        asking = Asking(self.model, self._complete if self._client else None, self._blank(tau))
        for _ in asking.run(question, _known(route), decoding or Decoding()):
            pass
        return asking.result

    def stream(
        self,
        question: str,
        tau: float | None = None,
        route: Route = "auto",
        decoding: Decoding | None = None,
    ) -> Iterator[str | Result]:
        """As `ask`, but yield the answer's text as it comes, and the result last.

        Closing the iterator cancels the work. Arguments and errors are those of `ask`.
        """
        handoff: Handoff | None = self._client.stream if self._client else None
        asking = Asking(self.model, handoff, self._blank(tau))
        return asking.run(question, _known(route), decoding or Decoding())

    def _complete(self, question: str) -> Iterator[CloudAnswer]:
        if self._client:
            yield self._client.complete(question)

    def _blank(self, tau: float | None) -> Result:
        routing = self.model.bundle.manifest.routing
        source = "calibration" if routing.calibration else "default"
        if tau is not None:
            if not 0 <= tau <= 1:
                raise ConfigError(f"tau: must be within [0, 1], is {tau}")
            source = "call"
        return Result(
            answer=None,
            source="none",
            reason="",
            tau=routing.tau if tau is None else tau,
            tau_source=source,
            bundle=self._bundle,
            prefix_source=self.model.prefix_source,
        )


def _client(cloud: "Cloud") -> "CloudClient":
    """Import the HTTP library only where there is a cloud: it takes long on a board."""
    from foggen_runtime.cloud import CloudClient

    return CloudClient(cloud)


def _known(route: Route) -> Route:
    if route not in get_args(Route):
        raise ConfigError(f"route: must be one of {', '.join(get_args(Route))}, is {route!r}")
    return route
