"""A TLS server on loopback that counts handshakes, and answers questions as a cloud does."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from tests.support.faults import completion

ANSWER = "B. Over TLS"


def self_signed(directory: Path, name: str = "IP:127.0.0.1") -> Path:
    """Make a key and a certificate in one PEM file; skips where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    path = directory / "server.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-subj", "/CN=foggen test", "-addext", f"subjectAltName={name}"]
    command += ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    parts = [(directory / part).read_text() for part in ("key.pem", "cert.pem")]
    path.write_text("".join(parts))
    return path


class TlsServer:
    """Answers one request per connection; a context manager.

    Attributes:
        handshakes: How many were finished.
        connections: How many were accepted.
        received: What came over the last connection after its handshake.
        closed: Set when a client closed a connection on which it had sent nothing.
        drop_idle: Closes the next connection right after its handshake.
        url: The base to give to clients.
    """

    def __init__(self, certificate: Path, handshake_seconds: float = 0.0) -> None:
        """Listen.

        Args:
            certificate: PEM file with key and certificate.
            handshake_seconds: How long a handshake is held up.
        """
        self.handshakes = 0
        self.connections = 0
        self.received = b""
        self.closed = threading.Event()
        self.drop_idle = False
        self._seconds = handshake_seconds
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._start(self._converse, connection)

    def _converse(self, connection: socket.socket) -> None:
        time.sleep(self._seconds)
        with connection, suppress(OSError):
            connection.settimeout(20)
            with self._context.wrap_socket(connection, server_side=True) as secure:
                self.handshakes += 1
                if self.drop_idle:
                    self.drop_idle = False
                    return
                self.received = secure.recv(1 << 16)
                if not self.received:
                    self.closed.set()
                    return
                while not self.received.endswith(b"}"):
                    self.received += secure.recv(1 << 16)
                body = completion(ANSWER, "")
                kind = "Content-Type: application/json"
                head = f"HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
                secure.sendall(head.encode() + body)


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something to come true, and fail if it does not."""
    deadline = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < deadline, "waited in vain"
        time.sleep(0.005)
