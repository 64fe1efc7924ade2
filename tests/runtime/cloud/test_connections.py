"""Connecting ahead, TLS and private authorities, against a server that counts."""

import asyncio
import gc
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from foggen_runtime.cloud import connections
from foggen_runtime.cloud.client import AsyncCloudClient, CloudClient
from foggen_runtime.cloud.endpoints import Cloud
from foggen_runtime.errors import ConfigError, HandoffError
from tests.support.cloud_server import CloudServer, Fault
from tests.support.tls_server import ANSWER, TlsServer, self_signed, wait_until

QUESTION = "Which is larger? A) 3 B) 5"
SLOW = 0.8  # seconds that a handshake takes


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))


def cloud_of(server: TlsServer, certificate: Path) -> Cloud:
    return Cloud(server.url, "big", ca_file=str(certificate), max_retries=0)


def seconds_to_complete(client: CloudClient) -> float:
    start = time.perf_counter()
    assert client.complete(QUESTION).text == ANSWER
    return time.perf_counter() - start


def test_a_handoff_after_warming_pays_no_handshake(certificate: Path) -> None:
    with TlsServer(certificate, SLOW) as server:
        with CloudClient(cloud_of(server, certificate)) as client:
            start = time.perf_counter()
            client.warm()
            assert time.perf_counter() - start < SLOW / 2
            wait_until(lambda: server.handshakes == 1)
            assert server.received == b""
            assert seconds_to_complete(client) < SLOW / 2
            assert (server.handshakes, server.connections) == (1, 1)
            assert b"Which is larger?" in server.received
            assert seconds_to_complete(client) > SLOW
        assert server.handshakes == 2


def test_a_handoff_while_warming_waits_for_that_connection(certificate: Path) -> None:
    with (
        TlsServer(certificate, SLOW) as server,
        CloudClient(cloud_of(server, certificate)) as client,
    ):
        client.warm()
        wait_until(lambda: server.connections == 1)
        time.sleep(SLOW / 2)
        assert seconds_to_complete(client) < SLOW
        assert (server.handshakes, server.connections) == (1, 1)


def test_warming_twice_connects_once(certificate: Path) -> None:
    with TlsServer(certificate) as server:
        with CloudClient(cloud_of(server, certificate)) as client:
            client.warm()
            client.warm()
            wait_until(lambda: server.handshakes == 1)
            client.warm()
            client.complete(QUESTION)
        assert server.connections == 1


def test_a_connection_that_nobody_uses_is_closed_and_nothing_was_sent(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "WARM_SECONDS", 0.2)
    with (
        TlsServer(certificate) as server,
        CloudClient(cloud_of(server, certificate)) as client,
    ):
        client.warm()
        wait_until(lambda: server.handshakes == 1)
        assert not server.closed.is_set()
        assert server.closed.wait(10)
        assert server.received == b""
        client.complete(QUESTION)
        assert server.handshakes == 2


def test_closing_the_client_closes_the_warm_connection(certificate: Path) -> None:
    with TlsServer(certificate) as server:
        with CloudClient(cloud_of(server, certificate)) as client:
            client.warm()
            wait_until(lambda: server.handshakes == 1)
        assert server.closed.wait(10)


def test_closing_the_client_cuts_a_handshake_short(certificate: Path) -> None:
    with TlsServer(certificate, SLOW) as server:
        with CloudClient(cloud_of(server, certificate)) as client:
            client.warm()
            wait_until(lambda: server.connections == 1)
            start = time.perf_counter()
        assert time.perf_counter() - start < SLOW / 2
        assert server.handshakes == 0


def test_a_warm_connection_that_the_server_dropped_is_replaced(certificate: Path) -> None:
    with (
        TlsServer(certificate) as server,
        CloudClient(cloud_of(server, certificate)) as client,
    ):
        server.drop_idle = True
        client.warm()
        wait_until(lambda: server.handshakes == 1)
        answer = client.complete(QUESTION)
    assert (answer.text, answer.attempts, server.handshakes) == (ANSWER, 2, 2)


def test_a_server_that_answers_nonsense_on_a_warm_connection_is_not_asked_again() -> None:
    with CloudServer(fault=Fault.NOT_HTTP) as server:
        cloud = Cloud(server.url, "big", api_key="secret-word", max_retries=0)
        with CloudClient(cloud) as client:
            client.warm()
            with pytest.raises(HandoffError) as caught:
                client.complete(QUESTION)
        assert (caught.value.reason, len(server.requests)) == ("cloud_invalid", 1)


def test_warming_in_vain_is_silent_and_the_question_tells() -> None:
    with (
        CloudServer(fault=Fault.REFUSE) as server,
        CloudClient(Cloud(server.url, "big", max_retries=0)) as client,
    ):
        client.warm()
        time.sleep(0.05)
        with pytest.raises(HandoffError, match="Connection refused"):
            client.complete(QUESTION)


def test_warming_leaves_an_endpoint_with_an_open_breaker_alone(certificate: Path) -> None:
    with TlsServer(certificate) as server, CloudServer(fault=Fault.REFUSE) as refusing:
        fallback = cloud_of(server, certificate)
        cloud = Cloud(refusing.url, "big", max_retries=0, breaker_failures=1, fallbacks=(fallback,))
        with CloudClient(cloud) as client:
            client.complete(QUESTION)
            client.warm()
            wait_until(lambda: server.handshakes == 2)


def test_leaving_the_client_of_ones_own_loop_cuts_a_handshake_short(certificate: Path) -> None:
    async def leave(server: TlsServer) -> float:
        async with AsyncCloudClient(cloud_of(server, certificate)) as client:
            client.warm()
            while not server.connections:
                await asyncio.sleep(0.005)
            start = time.perf_counter()
        return time.perf_counter() - start

    with TlsServer(certificate, SLOW) as server:
        assert asyncio.run(leave(server)) < SLOW / 2
        assert server.handshakes == 0


def test_warming_works_in_an_event_loop_of_ones_own(certificate: Path) -> None:
    async def ask(server: TlsServer) -> None:
        async with AsyncCloudClient(cloud_of(server, certificate)) as client:
            client.warm()
            while not server.handshakes:
                await asyncio.sleep(0.005)
            assert (await client.complete(QUESTION)).text == ANSWER

    with TlsServer(certificate) as server:
        asyncio.run(ask(server))
        assert server.handshakes == 1


def test_an_authority_of_ones_own_is_trusted_in_place_of_the_public_ones(
    certificate: Path,
) -> None:
    with TlsServer(certificate) as server:
        cloud = cloud_of(server, certificate)
        with (
            CloudClient(replace(cloud, ca_file=None)) as client,
            pytest.raises(HandoffError, match="CERTIFICATE_VERIFY_FAILED") as caught,
        ):
            client.complete(QUESTION)
        assert (caught.value.reason, caught.value.sent) == ("cloud_unreachable", False)
        with CloudClient(cloud) as client:
            assert client.complete(QUESTION).text == ANSWER


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "DNS:elsewhere.example")
    with (
        TlsServer(certificate) as server,
        CloudClient(cloud_of(server, certificate)) as client,
        pytest.raises(HandoffError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.complete(QUESTION)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_cannot_be_read_is_refused_at_once(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(
        ConfigError, match=r"ca_file: must be a PEM file of certificates, '.*ca.pem'"
    ):
        CloudClient(Cloud("https://cloud/v1", "big", ca_file=str(path)))


def test_a_port_that_takes_no_connections_ends_at_the_connect_timeout() -> None:
    # Linux drops what comes while the queue of a listener is full.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        with socket.create_connection(address):
            url = f"http://127.0.0.1:{address[1]}/v1"
            cloud = Cloud(url, "big", connect_timeout=0.3, max_retries=0)
            start = time.perf_counter()
            with CloudClient(cloud) as client, pytest.raises(HandoffError) as caught:
                client.complete(QUESTION)
            seconds = time.perf_counter() - start
    assert caught.value.reason == "cloud_unreachable"
    assert "no connection within connect_timeout of 0.3 s" in str(caught.value)
    assert 0.3 <= seconds < 2


def test_closing_while_connecting_ahead_leaves_nothing_unawaited() -> None:
    """A warning of an unawaited coroutine would fail this test."""
    gc.collect()
    gc.freeze()  # else each collection goes through all that pytest has loaded
    for pause in (0.0, 0.0005, 0.001, 0.002) * 15:
        client = CloudClient(Cloud("http://127.0.0.1:9/v1", "m", max_retries=0))
        client.warm()
        time.sleep(pause)
        client.close()
        gc.collect()
    gc.unfreeze()
