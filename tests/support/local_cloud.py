"""Clouds within the process, for what needs no socket: transports that answer, or fail as told."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from urllib.parse import urlsplit

import httpcore
import httpx

from tests.support.cloud_server import Fault, Received, Reply, Script, completion_of

# A part of a body: bytes, a pause in seconds, silence for ever, or how the connection breaks.
Part = bytes | float | None | Exception


class LocalCloud(httpx.AsyncBaseTransport):
    """Answers as `CloudServer` does; give it to a client as its transport.

    Attributes:
        url: The base to give to clients.
        answer: Gives the text for the last user message.
        fault: What to do instead of answering; may be changed between requests.
        first: What to do with the first requests, before anything else.
        piece_bytes: Bodies come in pieces of this size, wherever that cuts.
        requests: The requests received so far.
        left: Set when a client left before the response's end.
    """

    def __init__(
        self,
        answer: Callable[[str], str] = str.upper,
        fault: Fault | Reply | Script | None = None,
        name: str = "cloud",
    ) -> None:
        self.url = f"http://{name}/v1"
        self.answer = answer
        self.fault = fault
        self.first: list[Fault | Reply | Script] = []
        self.piece_bytes = 1 << 16
        self.requests: list[Received] = []
        self.left = threading.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Tell of connecting and sending as httpcore does, then answer or fail."""
        trace = request.extensions["trace"]
        await trace("connection.connect_tcp.started", {})
        fault = self.first.pop(0) if self.first else self.fault
        if fault is Fault.REFUSE:
            raise httpx.ConnectError("All connection attempts failed")
        sent = httpcore.Request(request.method, str(request.url))
        await trace("http11.send_request_headers.started", {"request": sent})
        body = await request.aread()
        self.requests.append(Received(request.url.path, dict(request.headers), body))
        if fault is Fault.HANG:
            await self._silence()
        return self._response(fault, json.loads(body))

    def _response(
        self, fault: Fault | Reply | Script | None, request: dict[str, object]
    ) -> httpx.Response:
        if isinstance(fault, Reply):
            head = [("Content-Type", fault.content_type)] if fault.content_type else []
            headers = httpx.Headers([*head, *fault.headers])
            return httpx.Response(fault.status, headers=headers, stream=_Body(self, [fault.body]))
        if isinstance(fault, Script):
            headers = httpx.Headers([("Content-Type", fault.content_type), *fault.headers])
            return httpx.Response(fault.status, headers=headers, stream=_Body(self, fault.parts))
        kind, body = completion_of(request, self.answer)
        parts = self._cut(body) if fault is None else self._broken(fault, body)
        return httpx.Response(200, headers={"Content-Type": kind}, stream=_Body(self, parts))

    def _cut(self, body: bytes) -> Iterator[bytes]:
        size = self.piece_bytes
        return (body[start : start + size] for start in range(0, len(body), size))

    def _broken(self, fault: Fault, body: bytes) -> tuple[Part, ...]:
        part = body[: len(body) * 2 // 3]
        cut = httpx.RemoteProtocolError("peer closed connection without sending complete message")
        return {
            Fault.HANG_BODY: (None,),
            Fault.STALL: (part, None),
            Fault.HALF: (part,),
            Fault.CUT: (part, cut),
            Fault.HUGE: (b" " * (1 << 20),) * 9,
        }[fault]  # the others need a socket

    async def _silence(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()


class LocalClouds(httpx.AsyncBaseTransport):
    """Several clouds behind one transport, told apart by their hosts."""

    def __init__(self, *clouds: LocalCloud) -> None:
        self._clouds = {urlsplit(cloud.url).hostname: cloud for cloud in clouds}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Leave it to the cloud it is for."""
        return await self._clouds[request.url.host].handle_async_request(request)


class _Body(httpx.AsyncByteStream):
    def __init__(self, cloud: LocalCloud, parts: Iterable[Part]) -> None:
        self._cloud = cloud
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
            elif isinstance(part, Exception):
                raise part
            elif part is None:
                await self._cloud._silence()
            else:
                await asyncio.sleep(part)
