"""The cloud a question is handed to: any OpenAI-compatible endpoint.

What leaves the device is the user's message, and a system prompt where the deployer set one. No
proxy, key or certificate is taken from the environment; no cookie is kept, no redirect followed.
"""

from collections.abc import AsyncGenerator, Generator
from functools import partial
from typing import Self

import httpx

from foggen_runtime.cloud.async_client import AsyncCloudClient
from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.cloud.endpoints import Cloud, Endpoint
from foggen_runtime.cloud.event_loop import EventLoopThread

__all__ = ["AsyncCloudClient", "Cloud", "CloudAnswer", "CloudClient", "Endpoint"]


class CloudClient:
    """Asks a cloud's endpoints in order; a context manager, and safe to share between threads.

    It is the `AsyncCloudClient` on an event loop in a thread of its own: only there can looking up
    a name, connecting and a slow answer all be cut short in time.
    """

    def __init__(self, cloud: Cloud, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Connect to nothing yet.

        Args:
            cloud: Where to, and how long to wait.
            transport: Carries all requests in place of connections of the client's own; see
                `AsyncCloudClient`.

        Raises:
            ConfigError: A `ca_file` cannot be used.
        """
        self._client = AsyncCloudClient(cloud, transport=transport)
        self._thread = EventLoopThread("foggen-cloud", self._close)
        self._streams: set[AsyncGenerator[str | CloudAnswer, None]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open; the client cannot be used afterwards."""
        self._thread.close()

    def warm(self) -> None:
        """Begin to connect, so that a question soon after finds TCP and TLS done; returns at once.

        Nothing is sent, and nothing is raised. A connection that is not used is closed after 10
        seconds. Where the first endpoint's breaker is open, the next one is connected to; where
        there is a proxy, nothing is done.
        """
        self._thread.call_soon(self._client.warm)

    def complete(
        self,
        question: str,
        *,
        idempotency_key: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> CloudAnswer:
        """Ask, and wait for the whole answer.

        Args:
            question: What the user said.
            idempotency_key: Sent with every attempt, so that a server can tell them from new
                questions; None makes one.
            cancellation: Ends the wait from another thread, and closes the connection.

        Raises:
            CancelledError: `cancellation` said so.
            HandoffError: The cloud did not answer. Its reason is `cloud_unreachable`,
                `cloud_timeout`, `cloud_rejected` (HTTP 4xx), `cloud_error` (5xx) or
                `cloud_invalid` (what came is no answer).
            QuestionError: The question cannot be written as UTF-8.
            ConfigError: The key is no header's value.
        """
        ask = partial(self._client.complete, question, idempotency_key=idempotency_key)
        return self._thread.run(ask, cancellation)

    def stream(
        self,
        question: str,
        *,
        idempotency_key: str | None = None,
        cancellation: Cancellation | None = None,
    ) -> Generator[str | CloudAnswer, None, None]:
        """Ask, and yield the answer's text piece by piece, at last the whole `CloudAnswer`.

        Nothing is sent before the first piece is asked for. Closing the iterator closes the
        connection. Time the consumer takes between two pieces counts towards `total_timeout`.
        Arguments and errors are those of `complete`; errors may come after some pieces.
        """
        items = self._client.stream(question, idempotency_key=idempotency_key)
        self._streams.add(items)
        try:
            while (item := self._thread.run(lambda: anext(items, None), cancellation)) is not None:
                yield item
        finally:
            self._streams.discard(items)
            self._thread.finish(items.aclose)

    async def _close(self) -> None:
        for items in list(self._streams):
            await items.aclose()
        await self._client.aclose()
