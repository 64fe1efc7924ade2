"""One connection: uvicorn's protocol, with a time limit on everything its client must do."""

import asyncio
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from foggen_runtime.serving.connections import Connections, Phase

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Connection(H11Protocol):
    """Says which phase it is in, and closes when its client takes too long.

    uvicorn itself limits only the time between two requests, and that only until the next byte.

    Attributes:
        address: What it is counted under.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        connections: Connections,
        address: str,
    ) -> None:
        """Register as one of the connections, even before it is made.

        Args:
            config: uvicorn's.
            server_state: uvicorn's.
            app_state: uvicorn's.
            connections: Where to register.
            address: The address it counts towards there.
        """
        super().__init__(config, server_state, app_state)
        self.address = address
        self._connections = connections
        self._limits = connections.limits
        # The request belongs to it: the next one's body has a time of its own.
        self._stage: tuple[Phase, object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held = 0
        self._unsent = 0
        self._gone = False
        connections.put(self, Phase.HEADER)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for a header."""
        super().connection_made(transport)
        if self._gone:
            transport.abort()
            return
        # With this, writing is paused exactly while the client still has something to take.
        transport.set_write_buffer_limits(high=0)
        self._look()
        # The loop reads only in its next turn, which may come late if it is busy: so the client's
        # time starts after that.
        self.loop.call_soon(self.loop.call_soon, self._begin_again)

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister."""
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and see what to wait for now."""
        super().data_received(data)
        if self.conn.their_state is h11.SEND_BODY:
            self._held = min(self._held + len(data), self._limits.body_bytes)
        else:
            self._held = len(self.conn.trailing_data[0])
        self._look()
        self._connections.hold(self, self._held)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """Start waiting for the client to take its answer."""
        super().pause_writing()
        self._look()

    def resume_writing(self) -> None:
        """Go on: the client has taken all there was."""
        super().resume_writing()
        self._look()

    def drop(self) -> None:
        """Close at once."""
        self._leave()
        if self.transport is not None:
            self.transport.abort()

    def _begin_again(self) -> None:
        self._stage = None
        self._look()

    def _look(self) -> None:
        stage = (self._phase(), self.cycle)
        if self._gone or stage == self._stage:
            return
        self._stage = stage
        self._connections.put(self, stage[0])
        self._start_timer(stage[0])

    def _phase(self) -> Phase:
        if self.flow.write_paused:
            return Phase.STALLED
        if self.conn.their_state is h11.SEND_BODY:
            return Phase.BODY
        if self.cycle is not None and not self.cycle.response_complete:
            return Phase.ASKED
        if self.cycle is None or self.conn.trailing_data[0]:
            return Phase.HEADER
        return Phase.IDLE

    def _start_timer(self, phase: Phase) -> None:
        self._stop_timer()
        self._unsent = self.transport.get_write_buffer_size()
        if (seconds := self._limits.seconds.get(phase)) is not None:
            self._timer = self.loop.call_later(seconds, self._expire, phase)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, phase: Phase) -> None:
        if phase is Phase.STALLED and self.transport.get_write_buffer_size() < self._unsent:
            self._start_timer(phase)  # slow, but it takes something
            return
        if phase is Phase.HEADER and self.conn.trailing_data[0]:
            self.transport.write(_TOO_SLOW)
        self._connections.expire(self)

    def _leave(self) -> None:
        self._gone = True
        self._stop_timer()
        self._connections.remove(self)
