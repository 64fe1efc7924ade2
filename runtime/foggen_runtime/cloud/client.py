"""The cloud a question is handed to: any OpenAI-compatible endpoint.

What leaves the device is the user's message, and a system prompt if the deployer set one. No proxy,
key or certificate is taken from the environment; no cookie is kept, no redirect followed.

`CloudClient` is for threads; `AsyncCloudClient`, which does the work, for code that runs in an
asyncio event loop.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Self

import httpx

from foggen_runtime.cloud.breaker import BreakerOpenError
from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.cloud.endpoints import Cloud, Endpoint
from foggen_runtime.cloud.event_loop import EventLoopThread
from foggen_runtime.cloud.exchange import Port, Query
from foggen_runtime.cloud.patience import Patience
from foggen_runtime.cloud.retrying import Itinerary, Jitter, Tries, full_jitter
from foggen_runtime.errors import HandoffError

__all__ = ["AsyncCloudClient", "Cloud", "CloudAnswer", "CloudClient", "Endpoint"]


class CloudClient:
    """Asks a cloud's endpoints in order; a context manager, and safe to share between threads.

    It runs an `AsyncCloudClient` on an event loop in a thread of its own: only there can a name
    lookup, a connection and a slow answer all be cut off in time.
    """

    def __init__(self, cloud: Cloud, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Connect to nothing yet.

        Args:
            cloud: Whom to ask, and how long to wait.
            transport: Carries all requests instead of the client's own connections; see
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
        """Start connecting, so that TCP and TLS are done when a question follows; returns at once.

        Nothing is sent, and nothing is raised. An unused connection is closed after 10 seconds. If
        the first endpoint's breaker is open, the next endpoint is connected to; with a proxy,
        nothing is done.
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
            idempotency_key: Sent with every attempt, so that a server can tell a retry from a new
                question; None makes one.
            cancellation: Lets another thread end the wait and close the connection.

        Raises:
            CancelledError: `cancellation` was cancelled.
            HandoffError: The cloud did not answer. Its reason is `cloud_unreachable`,
                `cloud_timeout`, `cloud_rejected` (HTTP 4xx), `cloud_error` (5xx) or
                `cloud_invalid` (what came back is not an answer).
            QuestionError: The question cannot be written as UTF-8.
            ConfigError: The key cannot be a header's value.
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
        """Ask, and yield the answer's text piece by piece, then the whole `CloudAnswer`.

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


class AsyncCloudClient:
    """Asks a cloud's endpoints in order; an async context manager, for one event loop.

    Every question gets its own connection, possibly one that `warm` opened ahead.
    """

    def __init__(
        self,
        cloud: Cloud,
        jitter: Jitter = full_jitter,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            cloud: Whom to ask, and how long to wait.
            jitter: Draws the random waits between attempts.
            clock: Times the circuit breakers, in seconds.
            transport: Carries all requests instead of the client's own connections. It must call a
                request's `trace` extension when it connects and sends, as httpx's own transports
                do: the time limits depend on it.

        Raises:
            ConfigError: A `ca_file` cannot be used.
        """
        self._cloud = cloud
        self._jitter = jitter
        self._ports = tuple(Port(endpoint, cloud, clock, transport) for endpoint in cloud.endpoints)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close what is open; the client cannot be used afterwards."""
        for port in self._ports:
            await port.aclose()

    def warm(self) -> None:
        """Do as `CloudClient.warm`."""
        for port in self._ports:
            if port.breaker.passes:
                port.warm()
                return

    async def complete(self, question: str, *, idempotency_key: str | None = None) -> CloudAnswer:
        """Ask, and wait for the whole answer; arguments and errors are those of `CloudClient`."""
        query = Query.of(question, idempotency_key, stream=False)
        async with aclosing(self._ask(query)) as items:
            async for item in items:
                if isinstance(item, CloudAnswer):
                    return item
        raise AssertionError("asking ends with an answer or an error")

    async def stream(
        self, question: str, *, idempotency_key: str | None = None
    ) -> AsyncGenerator[str | CloudAnswer, None]:
        """Ask, and yield the answer piece by piece, as `CloudClient.stream` does."""
        query = Query.of(question, idempotency_key, stream=True)
        async with aclosing(self._ask(query)) as items:
            async for item in items:
                yield item

    async def _ask(self, query: Query) -> AsyncGenerator[str | CloudAnswer, None]:
        """Make attempts until one gives a piece; that one is the last."""
        loop = asyncio.get_running_loop()
        cloud = self._cloud
        deadline = loop.time() + cloud.total_timeout
        tries = Tries(len(self._ports), cloud.max_retries, deadline, self._jitter)
        itinerary = Itinerary(tries, loop.time())
        begun = False
        while True:
            index, wait = itinerary.next(loop.time())
            await asyncio.sleep(wait)
            port = self._ports[index]
            try:
                with port.breaker.attempt():
                    itinerary.began(index)
                    # A whole answer gives no sign of life before it is there. So it gets all the
                    # time there is, unless another endpoint could be asked meanwhile.
                    whole = not port.streams(query) and itinerary.last
                    patience = Patience(cloud, deadline, cloud.total_timeout if whole else None)
                    async with aclosing(port.attempt(query, patience)) as items:
                        async for item in items:
                            if query.stream or isinstance(item, CloudAnswer):
                                begun = True
                                yield _counted(item, itinerary.attempts)
            except BreakerOpenError as error:
                itinerary.refused(index, error)
            except HandoffError as error:
                if begun:
                    raise
                itinerary.failed(index, error, loop.time())
            else:
                return


def _counted(item: str | CloudAnswer, attempts: int) -> str | CloudAnswer:
    """Add the attempts before this one, which may itself have been sent twice."""
    if isinstance(item, CloudAnswer):
        return replace(item, attempts=attempts - 1 + item.attempts)
    return item
