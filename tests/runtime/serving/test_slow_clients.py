"""Clients that send too little, read too little, or come in numbers, over real sockets."""

import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EMFILE

import pytest

from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.serving.settings import Settings
from tests.runtime.serving.test_chat import CLOUD_ONLY, SlowCloud, post_in_thread
from tests.support.cloud_server import CloudServer
from tests.support.gateway import CHAT, Gateway, request, serving

pytestmark = pytest.mark.serial

HEADER = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()
BODY = b"Content-Length: 1000\r\n\r\n{"
GET = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n"
IMPATIENT = Settings(header_timeout=0.4, body_timeout=0.4, send_timeout=0.4)


@pytest.fixture(scope="module")
def impatient() -> Iterator[Gateway]:
    with serving(IMPATIENT) as running:
        yield running


@contextmanager
def connected(gateway: Gateway, buffer: int = 0, source: str = "") -> Iterator[socket.socket]:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.socket() as client:
        client.settimeout(10)
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if source:
            client.bind((source, 0))
        client.connect((host, int(port)))
        yield client


def everything(client: socket.socket) -> bytes:
    """Return what comes until the server closes."""
    received = b""
    while True:
        try:
            piece = client.recv(1 << 16)
        except ConnectionError:
            return received
        if not piece:
            return received
        received += piece


@contextmanager
def dripping(client: socket.socket) -> Iterator[None]:
    """Send a byte now and then, as long as anybody takes it."""
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.05):
            try:
                client.sendall(b"x")
            except OSError:
                return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [(b"", b""), (HEADER, b"HTTP/1.1 408 "), (HEADER + b"X-Slow: ", b"HTTP/1.1 408 ")],
)
def test_a_header_must_come_in_time(impatient: Gateway, sent: bytes, answer: bytes) -> None:
    with connected(impatient) as client:
        client.sendall(sent)
        if sent.endswith(b" "):
            with dripping(client):
                received = everything(client)
        else:
            received = everything(client)
    assert received[: len(answer)] == answer
    assert bool(received) == bool(answer)


def test_the_header_of_a_later_request_must_come_in_time_too(impatient: Gateway) -> None:
    with connected(impatient) as client:
        client.sendall(GET + b"\r\n" + GET)
        assert b"HTTP/1.1 408 " in everything(client)


def test_a_body_that_does_not_come_in_time_is_told_so(impatient: Gateway) -> None:
    with connected(impatient) as client:
        client.sendall(HEADER + BODY)
        with dripping(client):
            received = everything(client)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"must arrive within 0.4 s" in received


def test_a_body_that_nobody_reads_must_come_in_time_too(impatient: Gateway) -> None:
    with connected(impatient) as client:
        client.sendall(GET + BODY)
        with dripping(client):
            assert everything(client).startswith(b"HTTP/1.1 200 ")


def test_an_idle_connection_is_not_held_to_the_header(impatient: Gateway) -> None:
    client = http.client.HTTPConnection(impatient.url.removeprefix("http://"))
    client.connect()
    opened = client.sock
    for _ in range(2):
        client.request("GET", "/healthz")
        assert client.getresponse().read() == b'{"status":"ok"}'
        time.sleep(0.6)
    assert client.sock is opened
    client.close()


def test_a_client_that_takes_nothing_is_dropped(impatient: Gateway) -> None:
    with connected(impatient, buffer=4096) as client:
        client.sendall((GET + b"\r\n") * 400)
        deadline = time.monotonic() + 20
        while "stalled_timeout" not in impatient.http.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        received = everything(client)
    assert 0 < received.count(b"HTTP/1.1 200 ") < 400


def test_a_client_that_takes_little_at_a_time_gets_all(sure: str) -> None:
    patience, words = 2.0, 1_200_000  # more than the system keeps for a connection
    body = json.dumps(request(sure, x_foggen=CLOUD_ONLY)).encode()
    with (
        CloudServer(lambda _: "word " * words) as server,
        serving(Settings(send_timeout=patience), Cloud(server.url, "big")) as gateway,
        connected(gateway, buffer=1 << 16) as client,
    ):
        length = b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        client.sendall(HEADER + length + body)
        received, began = [client.recv(1 << 16)], time.monotonic()
        while piece := client.recv(1 << 16):
            received.append(piece)
            time.sleep(0.05)
    assert time.monotonic() - began > patience
    assert b"".join(received).count(b"word ") == words


def test_a_reader_that_stops_does_not_keep_the_model(sure: str) -> None:
    with CloudServer(lambda _: "word " * 400_000) as server:
        cloud = Cloud(server.url, "big")
        with serving(Settings(handoffs=0), cloud) as gateway:
            body = json.dumps(request(sure, stream=True, x_foggen=CLOUD_ONLY)).encode()
            with connected(gateway, buffer=4096) as client:
                client.sendall(HEADER + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                assert client.recv(100).startswith(b"HTTP/1.1 200 ")
                assert gateway.chat(sure).headers["X-Foggen-Source"] == "local"


def test_idle_connections_make_room_for_new_ones() -> None:
    settings = Settings(max_connections=8, max_connections_per_address=8)
    with serving(settings) as gateway:
        clients = []
        for _ in range(30):
            with connected(gateway) as client:
                clients.append(client.dup())
        clients[-1].settimeout(5)
        clients[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert clients[-1].recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert everything(clients[0]) == b""
        counted = gateway.http.get("/metrics").text
        assert 'foggen_connections_dropped_total{reason="made_room"}' in counted
        for client in clients:
            client.close()


def test_a_question_on_its_way_is_not_dropped_for_newcomers(sure: str) -> None:
    settings = Settings(max_connections=2, max_connections_per_address=2)
    with (
        SlowCloud() as server,
        serving(settings, Cloud(server.url, "m")) as gateway,
    ):
        asked = [post_in_thread(gateway, sure, x_foggen=CLOUD_ONLY) for _ in range(2)]
        for _ in asked:
            assert server.asked.acquire(timeout=10)
        with connected(gateway) as client:
            received = everything(client)
        assert received.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in received
        server.go.set()
        for thread, responses in asked:
            thread.join(20)
            assert responses[0].status_code == 200


def test_one_address_does_not_drop_those_of_others() -> None:
    settings = Settings(max_connections=8, max_connections_per_address=3)
    with serving(settings) as gateway:
        with connected(gateway, source="127.0.0.2") as other:
            mine = []
            for _ in range(20):
                with connected(gateway, source="127.0.0.3") as client:
                    mine.append(client.dup())
            assert everything(mine[0]) == b""
            other.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert other.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        for client in mine:
            client.close()


def test_a_system_without_files_is_logged_once_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("foggen_runtime.serving.listening._PAUSE", 0.01)
    failures = iter(range(50))
    accept = socket.socket.accept

    def fail(listener: socket.socket) -> tuple[socket.socket, object]:
        if next(failures, None) is not None:
            raise OSError(EMFILE, "Too many open files")
        return accept(listener)

    with serving() as gateway:
        monkeypatch.setattr(socket.socket, "accept", fail)
        with connected(gateway) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in lines] == [
        "connections: cannot be accepted: Too many open files"
    ]


def test_a_message_that_repeats_is_logged_once(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        with connected(gateway) as client:
            client.sendall(b"no HTTP\r\n\r\n")
            assert everything(client).startswith(b"HTTP/1.1 400 ")
    assert caplog.text.count("Invalid HTTP request") <= 1
