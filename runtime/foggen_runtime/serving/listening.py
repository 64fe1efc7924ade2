"""Letting connections in one by one, and only as many as there is room for."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from socket import socket

import uvicorn

from foggen_runtime.serving.connections import Connections, counted_address
from foggen_runtime.serving.protocol import Connection

_LOG = logging.getLogger(__name__)
_PAUSE = 1.0  # seconds until the next try where the system has nothing left for a connection
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)


class ListeningServer(uvicorn.Server):
    """uvicorn, with connections accepted here.

    uvicorn would let asyncio accept all newcomers in one go, and hit the limit of open files before
    the first of them can be looked at.

    Attributes:
        on_start: Called once connections are being let in.
    """

    def __init__(self, config: uvicorn.Config, listener: socket, connections: Connections) -> None:
        """Prepare.

        Args:
            config: Without an address to listen on.
            listener: A socket that is already listening.
            connections: Knows whether there is room for more.
        """
        super().__init__(config)
        self.on_start: Callable[[], object] = lambda: None
        self._listener = listener
        self._connections = connections
        self._accepting: asyncio.Task[None] | None = None
        self._arriving: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start the application, then let connections in."""
        await super().startup(sockets=[])
        if self.should_exit:
            return
        self._listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept())
        self.on_start()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Let nobody in any more, and end what is running."""
        if self._accepting is not None:
            self._accepting.cancel()
            with suppress(asyncio.CancelledError):
                await self._accepting
        await asyncio.gather(*self._arriving)
        self._listener.close()
        await super().shutdown(sockets=[])

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                for _ in range(self._connections.limits.at_once):
                    self._admit(*await loop.sock_accept(self._listener))
            except ConnectionError:
                pass  # the client has left already
            except OSError as error:
                _LOG.warning("connections: cannot be accepted: %s", error.strerror or error)
                if not self._connections.make_room():
                    await asyncio.sleep(_PAUSE)
            # With newcomers in the queue, `sock_accept` never suspends: let the rest of the loop
            # have a turn.
            await asyncio.sleep(0)

    def _admit(self, newcomer: socket, peer: tuple[str, int]) -> None:
        address = counted_address(peer[0])
        if not self._connections.admit(address):
            _turn_away(newcomer)
            return
        connection = Connection(
            self.config, self.server_state, self.lifespan.state, self._connections, address
        )
        arriving = asyncio.create_task(self._connect(newcomer, connection))
        self._arriving.add(arriving)
        arriving.add_done_callback(self._arriving.discard)

    async def _connect(self, newcomer: socket, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: connection, newcomer)
        except OSError:
            connection.drop()
            newcomer.close()


def _turn_away(newcomer: socket) -> None:
    with newcomer, suppress(OSError):
        newcomer.send(_FULL)
