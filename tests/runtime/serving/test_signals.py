"""The signals that end `foggen serve`, at any moment of its life."""

import http.client
import json
import random
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from foggen_runtime.handoff.outbox import Outbox
from foggen_runtime.handoff.policy import OutboxLimits
from tests.conftest import BundleOf
from tests.support.cloud_server import CloudServer, Fault, Reply
from tests.support.gateway import CHAT, request
from tests.support.serve_process import process, start

AT_ONCE = 4  # processes


def ended_after_its_url(bundle: Path, number: signal.Signals, delay: float) -> tuple[int, str]:
    """Start the command, signal it so long after its URL, and give exit code and errors."""
    with start(bundle) as running:
        assert running.stdout is not None
        try:
            assert running.stdout.readline().startswith("http://")
            time.sleep(delay)
            running.send_signal(number)
            errors = running.communicate(timeout=20)[1]
        except subprocess.TimeoutExpired:
            errors = "it lives on"
        finally:
            running.kill()
    return running.returncode, errors


def all_ended(bundle: Path, starts: int) -> None:
    chance = random.Random(starts)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = pool.map(
            lambda i: ended_after_its_url(
                bundle,
                signal.SIGINT if i % 4 == 3 else signal.SIGTERM,
                chance.choice((0.0, chance.uniform(0, 0.05))),
            ),
            range(starts),
        )
        assert [outcome for outcome in outcomes if outcome != (0, "")] == []


@pytest.mark.slow
def test_a_signal_right_after_the_url_ends_it(tiny_bundle: BundleOf) -> None:
    all_ended(tiny_bundle("int4"), 12)


@pytest.mark.long
def test_a_signal_right_after_the_url_ends_it_200_times(tiny_bundle: BundleOf) -> None:
    all_ended(tiny_bundle("int4"), 200)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_url_ends_it(tiny_bundle: BundleOf, number: signal.Signals) -> None:
    chance = random.Random(number)
    for _ in range(4):
        with start(tiny_bundle("int4")) as running:
            time.sleep(chance.uniform(0.05, 0.8))
            running.send_signal(number)
            try:
                running.wait(20)
            finally:
                running.kill()
        assert running.returncode in (0, 130, -number)


def ended_within_its_grace(running: subprocess.Popen[str], grace: float) -> None:
    """Send SIGTERM, and see that the process ends in time, and as if all were well."""
    signalled = time.monotonic()
    running.terminate()
    errors = running.communicate(timeout=60)[1]
    # What ends after the grace, and the processor that other tests take.
    assert time.monotonic() - signalled < grace + 40
    assert running.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", [Fault.HANG, Fault.STALL, Fault.DRIP])
def test_it_ends_while_the_cloud_keeps_a_question(
    tiny_bundle: BundleOf, sure: str, fault: Fault, stream: bool
) -> None:
    with CloudServer(lambda _: "words " * 1000, fault) as server:
        options = ("--cloud-url", server.url, "--cloud-model", "big", "--grace", "0.5")
        with process(tiny_bundle("int4"), *options) as (url, running):
            client = http.client.HTTPConnection(urlsplit(url).netloc)
            body = json.dumps(request(sure, stream=stream, x_foggen={"route": "cloud_only"}))
            client.request("POST", CHAT, body, {"Content-Type": "application/json"})
            while not server.requests:
                time.sleep(0.01)
            ended_within_its_grace(running, 0.5)
            response = client.getresponse()
            assert response.status == 503 or b"shutting_down" in response.read()
            client.close()


def test_it_ends_while_a_client_takes_nothing_of_its_stream(
    tiny_bundle: BundleOf, sure: str
) -> None:
    with CloudServer(lambda _: "word " * 400_000) as server:
        options = ("--cloud-url", server.url, "--cloud-model", "big", "--grace", "0.5")
        with process(tiny_bundle("int4"), *options) as (url, running), socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((urlsplit(url).hostname, urlsplit(url).port))
            body = json.dumps(request(sure, stream=True, x_foggen={"route": "cloud_only"}))
            client.sendall(
                f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            assert client.recv(20).startswith(b"HTTP/1.1 200 ")
            ended_within_its_grace(running, 0.5)


def test_it_ends_while_a_long_question_is_read(tiny_bundle: BundleOf) -> None:
    """A forward pass is not interrupted, and not waited for beyond the grace."""
    options = ("--grace", "0", "--route", "local_only", "--max-new-tokens", "1500")
    with process(tiny_bundle("int4"), *options) as (url, running):
        clients = []
        for _ in range(3):
            client = http.client.HTTPConnection(urlsplit(url).netloc)
            body = json.dumps(request("very " * 400 + "long?"))
            client.request("POST", CHAT, body, {"Content-Type": "application/json"})
            clients.append(client)
        time.sleep(0.2)
        ended_within_its_grace(running, 0)
        for client in clients:
            client.close()


def test_it_ends_while_the_outbox_is_flushed(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite3"
    policy = tmp_path / "policy.toml"
    policy.write_text(
        f'on_unreachable = "queue"\n[outbox]\nfile = "{path}"\nflush_seconds = 0.05\n'
    )
    with CloudServer(fault=Reply.error(500, "out of order")) as server:
        options = ("--cloud-url", server.url, "--cloud-model", "big", "--policy", str(policy))
        with process(tiny_bundle("int4"), *options) as (url, running):
            body = request("Which?", x_foggen={"route": "cloud_only"})
            response = httpx.post(f"{url}{CHAT}", json=body, timeout=30)
            assert response.headers["X-Foggen-Source"] == "queued"
            asked, server.fault = len(server.requests), Fault.HANG
            while len(server.requests) == asked:
                time.sleep(0.01)
            ended_within_its_grace(running, 0)
    with Outbox(OutboxLimits(path)) as outbox:
        assert outbox.counts().accepted == 1
