"""Connections to one endpoint: a fresh one for every question, or one opened ahead of it.

Handoffs are rare, and an idle connection that a mobile network has dropped would make the next one
fail, so none is kept. But one may be opened while the device is still deciding; TCP and TLS are
then done when the handoff comes.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property

import httpcore
import httpx

from foggen_runtime.cloud.endpoints import Endpoint
from foggen_runtime.errors import ConfigError

WARM_SECONDS = 10.0  # seconds to hold a connection that nobody uses
_FAILURES = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


class Connections(httpx.AsyncBaseTransport):
    """Carries httpx's requests to one endpoint, over httpcore like httpx's own transport.

    httpx's own cannot connect ahead, leaves the socket of a cancelled TLS handshake open, and
    forgets why connecting failed (tried with httpx 0.28); it is still used if there is a proxy.
    """

    def __init__(self, endpoint: Endpoint, connect_timeout: float) -> None:
        """Connect to nothing yet.

        Args:
            endpoint: What to connect to.
            connect_timeout: Seconds that connecting ahead may take.

        Raises:
            ConfigError: The endpoint's `ca_file` cannot be used.
        """
        self._endpoint = endpoint
        self._connect_timeout = connect_timeout
        url = httpx.URL(endpoint.completions_url)
        self._url = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        self._backend = httpcore.AnyIOBackend()
        self._ahead: asyncio.Task[httpcore.AsyncNetworkStream] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        if endpoint.ca_file is not None:
            _ = self._tls

    def warm(self) -> None:
        """Start connecting, unless already done; sends nothing, and needs a running event loop.

        What fails here fails again, and is reported, when a question is sent. Does nothing with a
        proxy, which would have to be told where to connect.
        """
        if self._ahead is None and self._endpoint.proxy is None:
            loop = asyncio.get_running_loop()
            self._ahead = loop.create_task(self._open_in_time())
            self._expiry = loop.call_later(WARM_SECONDS, self._expire)

    async def aclose(self) -> None:
        """Close what was opened ahead."""
        self._expire()
        if self._closing is not None:
            await self._closing

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on a connection of its own.

        Raises:
            httpx.TransportError: The network or the server failed.
        """
        if self._proxied is not None:
            return await self._proxied.handle_async_request(request)
        with _as_httpx():
            return await self._send(request)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        stream = await self._opened_ahead()
        if stream is not None:
            try:
                return await self._exchange(stream, request)
            except (httpcore.ReadError, httpcore.RemoteProtocolError) as error:
                if isinstance(error, httpcore.RemoteProtocolError) and error.__cause__:
                    raise  # it answered, though not in HTTP
            # The server has closed it meanwhile, as it may. Like Go's net/http with requests that
            # have an idempotency key, send again on a fresh connection.
            await request.extensions["trace"]("connection.connect_tcp.started", {})
        return await self._exchange(await self._open(), request)

    async def _exchange(
        self, stream: httpcore.AsyncNetworkStream, request: httpx.Request
    ) -> httpx.Response:
        connection = httpcore.AsyncHTTP11Connection(self._url.origin, stream)
        try:
            response = await connection.handle_async_request(
                httpcore.Request(
                    request.method,
                    self._url,
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        except BaseException:
            await connection.aclose()
            raise
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(connection, response),
            extensions=response.extensions,
        )

    async def _open(self) -> httpcore.AsyncNetworkStream:
        origin = self._url.origin
        stream = await self._backend.connect_tcp(origin.host.decode(), origin.port)
        if origin.scheme == b"https":
            try:
                return await stream.start_tls(self._tls, origin.host.decode())
            except BaseException:
                await stream.aclose()
                raise
        return stream

    async def _open_in_time(self) -> httpcore.AsyncNetworkStream:
        async with asyncio.timeout(self._connect_timeout):
            return await self._open()

    async def _opened_ahead(self) -> httpcore.AsyncNetworkStream | None:
        """Take over the connection opened ahead, waiting for it if it is still being made."""
        task, self._ahead = self._ahead, None
        if task is None:
            return None
        if self._expiry is not None:
            self._expiry.cancel()
        with suppress(OSError, *_FAILURES):
            return await task
        return None

    def _expire(self) -> None:
        task, self._ahead = self._ahead, None
        if self._expiry is not None:
            self._expiry.cancel()
        if task is not None:
            self._closing = asyncio.get_running_loop().create_task(_close(task))

    @cached_property
    def _proxied(self) -> httpx.AsyncHTTPTransport | None:
        if self._endpoint.proxy is None:
            return None
        return httpx.AsyncHTTPTransport(
            verify=self._tls,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            proxy=self._endpoint.proxy,
            trust_env=False,
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """The TLS context, made when first needed: reading the public authorities takes long.

        Raises:
            ConfigError: The endpoint's `ca_file` cannot be used.
        """
        path = self._endpoint.ca_file
        try:
            context = (
                httpx.create_ssl_context(trust_env=False)
                if path is None
                else ssl.create_default_context(cafile=path)
            )
        except OSError as error:
            rule = "must be a PEM file of certificates"
            raise ConfigError(f"ca_file: {rule}, {path!r}: {error}") from error
        context.set_alpn_protocols(["http/1.1"])
        return context


class _Body(httpx.AsyncByteStream):
    """A response's bytes; closes the connection after them."""

    def __init__(
        self, connection: httpcore.AsyncHTTP11Connection, response: httpcore.Response
    ) -> None:
        self._connection = connection
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for chunk in self._response.aiter_stream():
                yield chunk

    async def aclose(self) -> None:
        await self._connection.aclose()


async def _close(opening: "asyncio.Task[httpcore.AsyncNetworkStream]") -> None:
    opening.cancel()
    with suppress(asyncio.CancelledError, OSError, *_FAILURES):
        await (await opening).aclose()


@contextmanager
def _as_httpx() -> Iterator[None]:
    """Raise httpcore's errors as httpx's, as its own transports do."""
    try:
        yield
    except _FAILURES as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error
