"""A real HTTP server on loopback that speaks enough of the OpenAI API, and fails on demand."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

MODEL = "cloud-model"


class Fault(StrEnum):
    """What the server does instead of answering."""

    REFUSE = auto()  # nobody listens on the port
    HANG = auto()  # takes the request and stays silent
    HANG_BODY = auto()  # stays silent after the headers
    DRIP_HEAD = auto()  # a byte of a header every 20 ms, for ever
    DRIP = auto()  # a byte of the body every 20 ms, for ever
    FLOOD = auto()  # one-byte chunks as fast as they are taken, for ever
    STALL = auto()  # stays silent in the middle of the answer
    HALF = auto()  # ends a well-formed response in the middle of the answer
    CUT = auto()  # closes the connection in the middle of the answer
    HUGE = auto()  # a body of 9 MB
    NOT_HTTP = auto()  # a header of the request in place of a status line


@dataclass(frozen=True)
class Reply:
    """A fixed response in place of an answer."""

    status: int
    body: bytes
    content_type: str | None = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def error(cls, status: int, message: str) -> Self:
        """An error in OpenAI's form."""
        error = {"message": message, "type": "fault", "param": None, "code": None}
        return cls(status, json.dumps({"error": error}).encode())


@dataclass(frozen=True)
class Script:
    """A body sent bit by bit; a number among its parts is a pause in seconds, None never ends."""

    parts: tuple[bytes | float | None, ...]
    content_type: str = "text/event-stream"
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 200


@dataclass(frozen=True)
class Received:
    """A request as it came: header names in lower case, the body's raw bytes."""

    path: str
    headers: dict[str, str]
    body: bytes


class CloudServer:
    """Answers `/v1/chat/completions` and `/v1/models`; a context manager.

    Attributes:
        answer: Gives the text for the last user message.
        fault: What to do instead of answering; may be changed between requests.
        first: What to reply to the first requests, before anything else.
        piece_bytes: Streams are sent in pieces of this size, wherever that cuts.
        requests: The requests received so far.
        disconnected: Set when a client closed its connection before the response's end.
    """

    def __init__(
        self, answer: Callable[[str], str] = str.upper, fault: Fault | Reply | Script | None = None
    ) -> None:
        self.answer = answer
        self.fault = fault
        self.first: list[Reply] = []
        self.piece_bytes = 1 << 16
        self.requests: list[Received] = []
        self.disconnected = threading.Event()
        self.stopping = threading.Event()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def root(self) -> str:
        """The server's URL without a path."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def url(self) -> str:
        """The base to give to clients."""
        return f"{self.root}/v1"

    def __enter__(self) -> Self:
        if self.fault is not Fault.REFUSE:
            self._server.server_activate()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128  # many clients connect at once

    def __init__(self, cloud: CloudServer) -> None:
        # Bound at once, listening only from `server_activate`: until then the port refuses.
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.cloud = cloud
        self.server_bind()


class _Handler(BaseHTTPRequestHandler):
    """One request per connection."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """List the models."""
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "tests"}
        self._reply(Reply(200, _json({"object": "list", "data": [model]})))

    def do_POST(self) -> None:
        """Complete a chat, or fail as told."""
        cloud = self.server.cloud
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        cloud.requests.append(Received(self.path, headers, body))
        try:
            if cloud.first:
                self._reply(cloud.first.pop(0))
            elif isinstance(cloud.fault, Reply):
                self._reply(cloud.fault)
            elif isinstance(cloud.fault, Script):
                self._perform(cloud.fault)
            elif cloud.fault is not None:
                self._fail(cloud.fault, json.loads(body))
            elif urlsplit(self.path).path != "/v1/chat/completions":
                self._reply(Reply.error(404, f"no such path: {self.path}"))
            else:
                self._answer(json.loads(body))
        except ConnectionError:
            cloud.disconnected.set()
            self.close_connection = True

    def _answer(self, request: dict[str, object]) -> None:
        content_type, body = completion_of(request, self.server.cloud.answer)
        self._chunked(content_type, self._pieces(body))

    def _fail(self, fault: Fault, request: dict[str, object]) -> None:
        content_type, body = completion_of(request, self.server.cloud.answer)
        part = body[: len(body) * 2 // 3]
        match fault:
            case Fault.HANG:
                self._wait_for_end()
            case Fault.HANG_BODY:
                self._head(200, content_type, (("Content-Length", "1"),))
                self._wait_for_end()
            case Fault.DRIP_HEAD:
                self.connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                for byte in self._drip():
                    self.connection.sendall(byte)
            case Fault.DRIP:
                self._chunked(content_type, self._drip())
            case Fault.FLOOD:
                self._head(200, content_type, (("Transfer-Encoding", "chunked"),))
                while not self.server.cloud.stopping.is_set():
                    self.connection.sendall(b"1\r\n \r\n" * 1000)
            case Fault.STALL:
                self._chunked(content_type, self._stall(part))
            case Fault.HALF:
                self._chunked(content_type, self._pieces(part))
            case Fault.CUT:
                self._head(200, content_type, (("Content-Length", str(len(body))),))
                self.connection.sendall(part)
            case Fault.HUGE:
                self._chunked(content_type, self._pieces(b" " * (9 << 20)))
            case Fault.NOT_HTTP:
                self.connection.sendall(f"{self.headers['Authorization']}\r\n\r\n".encode())
            case Fault.REFUSE:
                raise AssertionError("a server that refuses received a request")
        self.close_connection = True

    def _perform(self, script: Script) -> None:
        chunked = ("Transfer-Encoding", "chunked")
        self._head(script.status, script.content_type, (*script.headers, chunked))
        for part in script.parts:
            if isinstance(part, bytes):
                self.connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            else:
                self.server.cloud.stopping.wait(part)
        self.connection.sendall(b"0\r\n\r\n")

    def _reply(self, reply: Reply) -> None:
        self._head(
            reply.status,
            reply.content_type,
            (("Content-Length", str(len(reply.body))), *reply.headers),
        )
        self.wfile.write(reply.body)

    def _chunked(self, content_type: str, pieces: Iterator[bytes]) -> None:
        self._head(200, content_type, (("Transfer-Encoding", "chunked"),))
        for piece in pieces:
            self.connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.connection.sendall(b"0\r\n\r\n")

    def _head(
        self, status: int, content_type: str | None, headers: tuple[tuple[str, str], ...]
    ) -> None:
        self.send_response(status)
        if content_type is not None:
            self.send_header("Content-Type", content_type)
        for name, value in (*headers, ("Connection", "close")):
            self.send_header(name, value)
        self.end_headers()

    def _pieces(self, body: bytes) -> Iterator[bytes]:
        size = self.server.cloud.piece_bytes
        return (body[start : start + size] for start in range(0, len(body), size))

    def _drip(self) -> Iterator[bytes]:
        while not self.server.cloud.stopping.wait(0.02):
            yield b" "

    def _stall(self, part: bytes) -> Iterator[bytes]:
        yield part
        self._wait_for_end()

    def _wait_for_end(self) -> None:
        """Wait until the client gives up or the test ends."""
        self.connection.settimeout(0.02)
        while not self.server.cloud.stopping.is_set():
            try:
                if not self.connection.recv(1):
                    raise ConnectionResetError
            except TimeoutError:
                continue


def completion_of(request: dict[str, object], answer: Callable[[str], str]) -> tuple[str, bytes]:
    """Answer a request as it asks: return the content type and the body."""
    messages = request["messages"]
    assert isinstance(messages, list)
    question = messages[-1]["content"]
    text = answer(question)
    usage = {"prompt_tokens": len(question), "completion_tokens": len(text)}
    usage["total_tokens"] = sum(usage.values())
    if request.get("stream"):
        return "text/event-stream; charset=utf-8", b"".join(sse_events(text, usage))
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return "application/json", _json(_envelope("chat.completion", choices, usage))


def sse_events(text: str, usage: dict[str, int]) -> Iterator[bytes]:
    """Yield a streamed completion's events: a comment, the text in two halves, usage, the end."""
    half = (len(text) + 1) // 2
    yield b": keep-alive\n\n"
    for delta, finish_reason in (
        ({"role": "assistant", "content": ""}, None),
        ({"content": text[:half]}, None),
        ({"content": text[half:]}, None),
        ({}, "stop"),
    ):
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        yield _event(_envelope("chat.completion.chunk", [choice], None))
    yield _event(_envelope("chat.completion.chunk", [], usage))
    yield b"data: [DONE]\n\n"


def _envelope(kind: str, choices: Sequence[object], usage: dict[str, int] | None) -> object:
    head = {"id": "chatcmpl-1", "object": kind, "created": 0, "model": MODEL}
    return {**head, "choices": choices, "usage": usage}


def _event(value: object) -> bytes:
    return b"data: " + _json(value) + b"\n\n"


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
