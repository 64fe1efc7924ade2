"""How long one attempt may still take: to connect, to the next bytes, and in total."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.errors import HandoffError

T = TypeVar("T")


class Patience:
    """The time limits of one attempt, moved on as it proceeds; all times are the event loop's.

    Attributes:
        sends: How often the question has begun to be sent.
    """

    def __init__(self, cloud: Cloud, deadline: float, silence: float | None = None) -> None:
        """Start waiting for a connection.

        Args:
            cloud: Says the limits.
            deadline: When the question's total time is up.
            silence: Seconds from sending the question to the answer's beginning; None for the
                first-token limit.
        """
        self.sends = 0
        self._cloud = cloud
        self._deadline = deadline
        self._silence = cloud.first_token_timeout if silence is None else silence
        self._scope: asyncio.Timeout | None = None
        self._connecting = True
        self._limit = deadline
        self.connect()

    def connect(self) -> None:
        """Start connecting."""
        self._connecting = True
        self._set(self._cloud.connect_timeout)

    def send(self) -> None:
        """Start sending: from now on, the server's silence is limited."""
        self.sends += 1
        self._connecting = False
        self._set(self._silence)

    def renew(self) -> None:
        """The server is at work: limit its next silence by the first-token limit."""
        self._set(self._cloud.first_token_timeout)

    def shorten(self, seconds: float) -> None:
        """Wait at most this long from now on."""
        self._limit = min(self._limit, self._now() + seconds)

    async def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow httpcore through a request; its `trace` extension.

        A proxy's CONNECT is part of connecting.
        """
        if event == "connection.connect_tcp.started":
            self.connect()
        elif event == "http11.send_request_headers.started" and info["request"].method == b"POST":
            self.send()

    async def wait(self, step: Awaitable[T]) -> T:
        """Wait for a step, within the limits.

        Raises:
            HandoffError: `cloud_unreachable` if no connection came in time, else `cloud_timeout`.
        """
        try:
            async with asyncio.timeout_at(self._limit) as self._scope:
                return await step
        except TimeoutError as error:
            raise self._too_late() from error
        finally:
            self._scope = None

    def check(self) -> None:
        """Raise what `wait` would, if the time is up: bytes that keep coming never call `wait`."""
        if self._now() >= self._limit:
            raise self._too_late()

    def _set(self, seconds: float) -> None:
        self._limit = min(self._now() + seconds, self._deadline)
        if self._scope is not None:
            self._scope.reschedule(self._limit)

    def _too_late(self) -> HandoffError:
        cloud = self._cloud
        if self._now() >= self._deadline:
            limit = f"no whole answer within total_timeout of {cloud.total_timeout} s"
            return HandoffError("cloud_timeout", f"cloud: {limit}")
        if self._connecting:
            limit = f"no connection within connect_timeout of {cloud.connect_timeout} s"
            return HandoffError("cloud_unreachable", f"cloud: {limit}")
        limit = f"silent for longer than first_token_timeout of {cloud.first_token_timeout} s"
        return HandoffError("cloud_timeout", f"cloud: {limit}")

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
