"""Many connections that hold on to a server: they send too little, or read too little.

As a command, `python -m tests.support.crowd URL COUNT SECONDS`, it may open as many files as the
system lets it; what it counted is its last line, as JSON.
"""

import asyncio
import http.client
import json
import math
import random
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

_RATE = 1000.0  # connections a second, until all are there
_AGAIN = 5.0  # seconds until a connection that the server closed is opened again
_HEADER = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
_BODY = b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
_PAGES = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def _silent(_: asyncio.StreamWriter) -> None:
    pass


async def _half_a_header(writer: asyncio.StreamWriter) -> None:
    writer.write(_HEADER[:30])


async def _dripping_header(writer: asyncio.StreamWriter) -> None:
    writer.write(_HEADER + b"X-Slow: ")
    await _drip(writer)


async def _dripping_body(writer: asyncio.StreamWriter) -> None:
    writer.write(_HEADER + _BODY)
    await _drip(writer)


async def _idle_after_an_answer(writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")


async def _never_reading(writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(_PAGES)


async def _drip(writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        await asyncio.sleep(0.5)
        writer.write(b"x")


BEHAVIOURS: tuple[Behaviour, ...] = (
    _silent,
    _half_a_header,
    _dripping_header,
    _dripping_body,
    _idle_after_an_answer,
    _never_reading,
)


class Crowd:
    """Holds connections open from many addresses of loopback, and opens them again.

    Attributes:
        counts: How many were opened, closed by the server, and could not be opened.
    """

    def __init__(self, url: str, size: int, addresses: int = 64) -> None:
        self.counts: Counter[str] = Counter()
        self._url = url
        self._size = size
        self._addresses = addresses

    async def stay(self, seconds: float) -> None:
        """Hold on for a while."""
        holders = [asyncio.create_task(self._hold(i)) for i in range(self._size)]
        await asyncio.sleep(seconds)
        for holder in holders:
            holder.cancel()
        await asyncio.gather(*holders, return_exceptions=True)

    async def _hold(self, number: int) -> None:
        where = urlsplit(self._url)
        source = f"127.0.{1 + number % self._addresses}.1"
        behave = BEHAVIOURS[number % len(BEHAVIOURS)]
        chance = random.Random(number)
        await asyncio.sleep(number / _RATE)
        while True:
            with suppress(OSError):
                await self._connect(str(where.hostname), where.port or 0, source, behave)
            await asyncio.sleep(chance.uniform(1, 2) * _AGAIN)

    async def _connect(self, host: str, port: int, source: str, behave: Behaviour) -> None:
        opened = socket.socket()
        # Little: who does not read then keeps the server from sending what it has.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.setblocking(False)
        try:
            opened.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(opened, (host, port))
        except OSError:
            opened.close()
            self.counts["not opened"] += 1
            raise
        reader, writer = await asyncio.open_connection(sock=opened)
        self.counts["opened"] += 1
        behaving = asyncio.ensure_future(behave(writer))
        try:
            while await reader.read(1 << 16):
                pass
        finally:
            self.counts["closed"] += 1
            behaving.cancel()
            writer.transport.abort()


def seconds_to_health(url: str) -> float:
    """Return how long a look at `/healthz` takes; infinity where it fails."""
    where = urlsplit(url)
    client = http.client.HTTPConnection(str(where.hostname), where.port, timeout=10)
    started = time.monotonic()
    try:
        client.request("GET", "/healthz")
        healthy = client.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        healthy = False
    finally:
        client.close()
    return time.monotonic() - started if healthy else math.inf


def main() -> None:
    """Be a crowd, as the arguments say."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowd = Crowd(sys.argv[1], int(sys.argv[2]))
    asyncio.run(crowd.stay(float(sys.argv[3])))
    print(json.dumps(crowd.counts))


if __name__ == "__main__":
    main()
