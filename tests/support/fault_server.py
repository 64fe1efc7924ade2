"""An OpenAI-style server on loopback that fails as networks, proxies and servers do.

    python -m tests.support.fault_server --port 0 --seed 1 --fault-rate 0.3

It prints its port and serves until it is ended. The base URL chooses how it behaves:

    http://127.0.0.1:PORT/v1              a fault from --faults in a --fault-rate share of requests
    http://127.0.0.1:PORT/fault/NAME/v1   always that fault
    http://127.0.0.1:PORT/once/NAME/v1    that fault for the first request of each idempotency key
    http://127.0.0.1:PORT/fault/none/v1   never a fault
    http://127.0.0.1:PORT/stats           what happened so far, as JSON

An answer's text begins with an option letter and names the upstream call that made it, so one that
was made twice can be told apart. With the same `Idempotency-Key` the stored answer is given again,
unless `--ignore-idempotency` is set. Uses the standard library only.
"""

import argparse
import asyncio
import json
import random
import socket
import struct
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Self

from tests.support.faults import (
    MODEL,
    Fault,
    FaultSettings,
    Stats,
    as_json,
    completion,
    digest,
    events,
)

_JSON = "application/json"
_LINGER_NOT = struct.pack("ii", 1, 0)


class FaultServer:
    """Serves from a thread of its own; a context manager.

    Attributes:
        stats: What happened so far.
        port: Where it listens, once entered.
    """

    def __init__(self, settings: FaultSettings | None = None, port: int = 0) -> None:
        self.settings = settings or FaultSettings()
        self.stats = Stats()
        self._holder = _socket(port)  # keeps the port while nobody listens on it
        self.port: int = self._holder.getsockname()[1]
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-server")
        self._stopping = asyncio.Event()
        self._seen: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def url(self, fault: "Fault | None" = None, *, once: bool = False) -> str:
        """Return the base to give to clients: drawn faults, or this one."""
        path = "" if fault is None else f"/{'once' if once else 'fault'}/{fault}"
        return f"http://127.0.0.1:{self.port}{path}/v1"

    @property
    def sound_url(self) -> str:
        """The base under which nothing fails."""
        return f"http://127.0.0.1:{self.port}/fault/none/v1"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self.serve())

    async def serve(self) -> None:
        """Serve until the context ends or the task is cancelled."""
        self._listener = await self._listen()
        self._ready.set()
        try:
            await self._stopping.wait()
        finally:
            self._listener.close()
            self._holder.close()

    async def _listen(self) -> asyncio.Server:
        listening = _socket(self.port)
        return await asyncio.start_server(self._converse, sock=listening, backlog=1024)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await _Exchange(self, reader, writer).run():
                    pass
        finally:
            writer.close()

    async def refuse(self, writer: asyncio.StreamWriter) -> None:
        """Reset one connection, and refuse new ones for a while."""
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        writer.transport.abort()
        if self._listener.is_serving():
            self._listener.close()
            await asyncio.sleep(self.settings.refusing)
            self._listener = await self._listen()

    def fault_for(self, path: str, key: str) -> Fault | None:
        """Choose what happens to a request."""
        kind, _, rest = path.strip("/").partition("/")
        name = rest.partition("/")[0]
        if kind == "v1":
            draw = random.Random(f"{self.settings.seed}:{self.stats.requests}")
            hit = draw.random() < self.settings.fault_rate
            return draw.choice(self.settings.faults) if hit else None
        again = (name, key) in self._seen
        self._seen.add((name, key))
        return None if name == "none" or (kind == "once" and again) else Fault(name)

    def answer(self, key: str, question: str) -> str:
        """Make an answer, or give the stored one again."""
        answers = self.stats.answers.setdefault(key, [])
        if answers and not self.settings.ignore_idempotency:
            return answers[0]
        self.stats.calls[key] += 1
        answers.append(f"B. Call {self.stats.calls.total()} for {digest(question)}")
        return answers[-1]


class _Exchange:
    """One request and its response."""

    def __init__(
        self, server: FaultServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer

    async def run(self) -> bool:
        """Answer one request; tell whether another may follow on the connection."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, *_ = head.split(" ")
        lines = [line.partition(":") for line in head.split("\r\n")[1:]]
        headers = {name.strip().lower(): value.strip() for name, _, value in lines}
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        if method == "GET":
            stats = self._server.stats.document()
            models = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
            await self._send(200, _JSON, as_json(stats if path == "/stats" else models))
            return True
        stats_ = self._server.stats
        stats_.requests += 1
        key = headers.get("idempotency-key", f"request {stats_.requests}")
        fault = self._server.fault_for(path, key)
        request = json.loads(body)
        if fault is None:
            await self._answer(key, request)
            return True
        stats_.faults[fault] += 1
        await self._fail(fault, key, request)
        return False

    async def _answer(self, key: str, request: dict[str, object]) -> None:
        question = _question(request)
        text = self._server.answer(key, question)
        if not request.get("stream"):
            await self._send(200, _JSON, completion(text, question))
            return
        self._head(200, "text/event-stream", "Transfer-Encoding: chunked")
        for event in events(text, question):
            self._writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await self._writer.drain()
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def _fail(self, fault: Fault, key: str, request: dict[str, object]) -> None:
        settings = self._server.settings
        match fault:
            case Fault.REFUSE:
                await self._server.refuse(self._writer)
            case Fault.RETRY_AFTER_SECONDS:
                await self._error(429, f"Retry-After: {settings.retry_after}")
            case Fault.RETRY_AFTER_DATE:
                now = datetime.now(UTC)
                until = now + timedelta(seconds=settings.retry_after)
                dates = [format_datetime(date, usegmt=True) for date in (now, until)]
                await self._error(429, f"Date: {dates[0]}\r\nRetry-After: {dates[1]}")
            case Fault.SERVER_ERROR:
                await self._error(500)
            case Fault.BAD_GATEWAY:
                await self._send(502, "text/html", b"<html>Bad Gateway</html>")
            case Fault.UNAVAILABLE:
                await self._error(503)
            case Fault.WRONG_CONTENT_TYPE:
                await self._send(200, "text/html", b"<html>Please sign in</html>")
            case _:
                await self._fail_answering(fault, key, request)

    async def _fail_answering(self, fault: Fault, key: str, request: dict[str, object]) -> None:
        """Fail after the upstream call was made: it counts."""
        question = _question(request)
        text = self._server.answer(key, question)
        streamed = bool(request.get("stream"))
        kind = "text/event-stream" if streamed else _JSON
        body = b"".join(events(text, question)) if streamed else completion(text, question)
        half = body[: len(body) // 2]
        match fault:
            case Fault.ERROR_BODY:
                error = as_json({"error": {"message": "the model crashed", "type": "fault"}})
                await self._send(200, kind, b"data: %b\n\n" % error if streamed else error)
            case Fault.INVALID_JSON:
                await self._send(200, kind, half + b"\n\n" if streamed else half)
            case Fault.HALF_CHUNK:
                self._head(200, kind, "Transfer-Encoding: chunked")
                self._writer.write(b"%x\r\n%b" % (len(body), half))
                await self._writer.drain()
            case Fault.HANG_BEFORE_HEADERS:
                await self._hold(fault, streamed, b"")
            case Fault.HANG_MID_STREAM:
                self._head(200, kind, f"Content-Length: {len(body)}")
                await self._hold(fault, streamed, half)
            case Fault.SLOW_DRIP:
                self._head(200, kind, f"Content-Length: {len(body)}")
                await self._hold(fault, streamed, b"", drip=body)

    async def _hold(self, fault: Fault, streamed: bool, first: bytes, drip: bytes = b"") -> None:
        """Send some bytes, perhaps more slowly, and note when the client goes away."""
        since = time.perf_counter()
        self._writer.write(first)
        gone = asyncio.ensure_future(self._reader.read(1))
        stopping = asyncio.ensure_future(self._server._stopping.wait())
        for byte in drip:
            self._writer.write(bytes([byte]))
            if (await asyncio.wait({gone, stopping}, timeout=0.05))[0]:
                break
        await asyncio.wait({gone, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            gone.exception()  # a reset is as good an end as any
            seconds = time.perf_counter() - since
            self._server.stats.held.append((str(fault), streamed, seconds))
        gone.cancel()
        stopping.cancel()

    async def _error(self, status: int, header: str = "") -> None:
        error = {"message": f"fault {status}", "type": "fault", "param": None, "code": None}
        await self._send(status, _JSON, as_json({"error": error}), header)

    async def _send(self, status: int, kind: str, body: bytes, header: str = "") -> None:
        length = f"Content-Length: {len(body)}"
        self._head(status, kind, f"{length}\r\n{header}" if header else length)
        self._writer.write(body)
        await self._writer.drain()

    def _head(self, status: int, kind: str, headers: str) -> None:
        lines = f"HTTP/1.1 {status} Fault\r\nContent-Type: {kind}\r\n{headers}\r\n\r\n"
        self._writer.write(lines.encode())


def _question(request: dict[str, object]) -> str:
    messages = request["messages"]
    assert isinstance(messages, list)
    return str(messages[-1]["content"])


def _socket(port: int) -> socket.socket:
    """Return a socket bound to the port, which others may bind to as well."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def main() -> None:
    """Serve until ended by a signal."""
    parser = argparse.ArgumentParser(description="Serve an OpenAI-style endpoint that fails.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=1, help="of the draw of faults")
    parser.add_argument("--fault-rate", type=float, default=0.3, help="share of requests")
    parser.add_argument("--faults", default=",".join(Fault), help="names, with commas")
    parser.add_argument("--ignore-idempotency", action="store_true", help="answer keys anew")
    parser.add_argument("--retry-after", type=int, default=1, help="seconds the 429s ask for")
    options = parser.parse_args()
    settings = FaultSettings(
        seed=options.seed,
        fault_rate=options.fault_rate,
        faults=tuple(Fault(name) for name in options.faults.split(",")),
        ignore_idempotency=options.ignore_idempotency,
        retry_after=options.retry_after,
    )
    server = FaultServer(settings, options.port)
    with suppress(KeyboardInterrupt), server:
        print(server.port, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
