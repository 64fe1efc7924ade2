"""Who may come in, and how much."""

import hmac
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from foggen_runtime.errors import ConfigError
from foggen_runtime.serving.gate import is_loopback
from foggen_runtime.serving.server import open_socket
from foggen_runtime.serving.settings import Settings
from tests.support.gateway import CHAT, Gateway, request, serving

KEY = "a-key-of-tests-0123456789"
LIMITS = Settings(api_key=KEY, max_body=2000, max_question=500, allowed_hosts=("Box.local",))


@pytest.fixture(scope="module")
def locked() -> Iterator[Gateway]:
    with serving(LIMITS) as running:
        yield running


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_an_open_address_without_a_key_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="so it needs an API key"):
        open_socket(Settings(host=host, port=0))


def test_an_open_address_with_a_key_is_served(sure: str) -> None:
    settings = Settings(host="0.0.0.0", api_key=KEY)
    with serving(settings) as gateway:
        # The key takes the place of the host names.
        headers = {"Host": "any.example"}
        assert gateway.http.post(CHAT, json=request(sure), headers=headers).status_code == 200
        assert httpx.post(f"{gateway.url}{CHAT}", json=request(sure)).status_code == 401


def test_an_address_in_use_is_refused() -> None:
    with open_socket(Settings(port=0)) as taken:
        taken.listen()
        with pytest.raises(ConfigError, match="cannot listen here"):
            open_socket(Settings(port=taken.getsockname()[1]))


def test_a_host_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not an address of this device"):
        open_socket(Settings(host="no such host"))


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("::", False)],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


@pytest.mark.parametrize(
    "key", ["", "short", "with a blank in it", "\x7f" * 20, "schlüssel-schlüssel"]
)
def test_a_key_that_is_no_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="api_key: must be at least 16 visible") as caught:
        Settings(api_key=key)
    assert not key or key not in str(caught.value)


def test_settings_do_not_show_the_key() -> None:
    assert KEY not in repr(LIMITS)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/x", "/status", "/metrics", "/nope"])
@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", KEY]
)
def test_a_wrong_key_is_refused(locked: Gateway, path: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = httpx.get(f"{locked.url}{path}", headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    error = response.json()["error"]
    assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")


def test_a_wrong_key_gets_no_answer(locked: Gateway, sure: str) -> None:
    headers = {"Authorization": "Bearer wrong"}
    response = httpx.post(f"{locked.url}{CHAT}", json=request(sure), headers=headers)
    assert response.status_code == 401
    assert locked.chat(sure).status_code == 200


def test_a_key_in_bytes_beyond_ascii_is_wrong_not_an_error(locked: Gateway) -> None:
    headers = [(b"Authorization", b"Bearer \xff\xfe")]
    assert httpx.get(f"{locked.url}/status", headers=headers).status_code == 401


def test_keys_are_compared_in_constant_time(
    locked: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert locked.http.get("/status").status_code == 200
    assert httpx.get(f"{locked.url}/status", headers={"Authorization": "Bearer x"}).is_error
    # Digests: neither the length of the key nor its beginning matters to the time.
    assert [len(one) == len(other) == 32 for one, other in compared] == [True, True]


@pytest.mark.parametrize("path", ["/", "/healthz", "/openapi.json"])
def test_what_needs_no_key(locked: Gateway, path: str) -> None:
    assert httpx.get(f"{locked.url}{path}").status_code == 200


@pytest.mark.parametrize("size", [2001, 20_000, 2_000_000])
def test_an_oversized_body_is_refused(locked: Gateway, size: int) -> None:
    body = json.dumps(request("What?")).encode()
    body += b" " * (size - len(body))
    response = locked.http.post(CHAT, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"
    # Whatever happened to that connection, the next request works.
    assert locked.http.get("/status").status_code == 200


def test_who_reads_only_after_sending_all_still_reads_the_refusal(locked: Gateway) -> None:
    host, port = locked.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Type: application/json\r\nContent-Length: 30000\r\n\r\n".encode()
        )
        for _ in range(10):
            client.sendall(b" " * 3000)
            time.sleep(0.05)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


def test_a_body_as_large_as_allowed_is_taken(locked: Gateway) -> None:
    body = json.dumps(request("What?")).encode()
    body += b" " * (2000 - len(body))
    response = locked.http.post(CHAT, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 200


def test_a_body_without_a_stated_length_is_limited_too(locked: Gateway) -> None:
    pieces = (b" " * 1000 for _ in range(5))
    headers = {"Content-Type": "application/json"}
    assert locked.http.post(CHAT, content=pieces, headers=headers).status_code == 413


def test_a_question_too_long_is_refused(locked: Gateway) -> None:
    error = locked.chat("x" * 501).json()["error"]
    assert (error["code"], error["param"]) == ("question_too_long", "messages[0].content")
    assert "has 501" in error["message"]
    assert "xx" not in error["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_json_is_read(locked: Gateway, kind: str) -> None:
    body = json.dumps(request("What?"))
    response = locked.http.post(CHAT, content=body, headers={"Content-Type": kind})
    assert response.status_code == 415


def test_a_browser_is_told_of_no_foreign_page(gateway: Gateway, sure: str) -> None:
    preflight = gateway.http.options(
        CHAT,
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert preflight.status_code == 403
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}):
        response = gateway.http.post(CHAT, json=request(sure), headers=headers)
        assert response.status_code == 403
        assert not [name for name in response.headers if name.startswith("access-control")]
    own = {"Origin": gateway.url}
    assert gateway.http.post(CHAT, json=request(sure), headers=own).status_code == 200


@pytest.mark.parametrize("path", ["/", "/status", "/v1/models", "/healthz"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "x"])
def test_a_foreign_host_name_is_refused_on_loopback(gateway: Gateway, path: str, host: str) -> None:
    response = gateway.http.get(path, headers={"Host": host})
    assert response.status_code == 421
    assert response.json()["error"]["code"] == "unknown_host"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:8080", "[::1]"]
)
def test_own_host_names_are_known(gateway: Gateway, host: str) -> None:
    assert gateway.http.get("/status", headers={"Host": host}).status_code == 200


def test_more_host_names_can_be_allowed(locked: Gateway) -> None:
    assert locked.http.get("/status", headers={"Host": "box.local:80"}).status_code == 200
    assert locked.http.get("/status", headers={"Host": "boxes.local"}).status_code == 421


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", CHAT, 405), ("PUT", "/status", 405), ("GET", "/v1/embeddings", 404)],
)
def test_what_is_not_served(gateway: Gateway, method: str, path: str, status: int) -> None:
    response = gateway.http.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 1_000_000,
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_bad_request(gateway: Gateway, data: bytes) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(data)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 4")


def test_a_client_that_leaves_within_its_body_leaves_nothing(gateway: Gateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    before = gateway.http.get("/status").json()["cancelled"]
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Content-Length: 100\r\n\r\n{".encode()
        )
        time.sleep(0.1)
    gateway.wait_for(running=0, waiting=0, cancelled=before + 1)


def test_every_page_has_its_headers(gateway: Gateway) -> None:
    for path in ("/", "/healthz", "/metrics", "/status", "/openapi.json", "/v1/models", "/nope"):
        headers = gateway.http.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "server" not in headers


def test_the_page_loads_nothing_from_elsewhere(gateway: Gateway) -> None:
    response = gateway.http.get("/")
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "http://" not in response.text
    assert "https://" not in response.text


def test_requests_are_logged_without_content(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, sure: str
) -> None:
    caplog.set_level("INFO", logger="foggen_runtime")
    gateway.chat(sure)
    gateway.http.get(f"/{'secret' * 3}?secret=1")
    gateway.http.get("/v1/models/secret")
    assert f"POST {CHAT} 200 " in caplog.text
    assert "GET (another path) 404 " in caplog.text
    assert "secret" not in caplog.text.replace("httpx", "")
    assert sure not in caplog.text


def test_the_key_file_of_the_command(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from foggen_runtime.cli import foggen

    key = tmp_path / "key"
    for text, message in ((None, "cannot be read"), (" \n", "is empty"), ("short", "at least 16")):
        if text is not None:
            key.write_text(text, encoding="utf-8")
        result = CliRunner().invoke(foggen, ["serve", "no-bundle", "--api-key-file", str(key)])
        assert result.exit_code == 2
        assert message in result.stderr
        assert "short" not in result.stderr
