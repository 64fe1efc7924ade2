"""The cloud a question is handed to: any OpenAI-compatible endpoint.

What leaves the device is the user's message, and a system prompt where the deployer set one. No
proxy, key or certificate is taken from the environment; no cookie is kept, no redirect followed.
"""

import json
import re
import socket
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Self

import httpx

from foggen_runtime.completions import (
    CloudAnswer,
    is_text,
    read_completion,
    read_stream,
    server_message,
    shown,
)
from foggen_runtime.errors import ConfigError, HandoffError, QuestionError

__all__ = ["Cloud", "CloudAnswer", "CloudClient"]

_PATH = "/chat/completions"
_MAX_TIMEOUT = 86_400.0  # seconds
_MAX_BYTES = 8 << 20

# The first that fits decides.
_REASONS: tuple[tuple[type[httpx.HTTPError], str], ...] = (
    (httpx.ConnectTimeout, "cloud_unreachable"),
    (httpx.TimeoutException, "cloud_timeout"),
    (httpx.NetworkError, "cloud_unreachable"),
    (httpx.ProxyError, "cloud_unreachable"),
    (httpx.HTTPError, "cloud_invalid"),
)


@dataclass(frozen=True)
class Cloud:
    """Where questions are handed off to, and how long to wait.

    Attributes:
        url: The OpenAI-style base, e.g. `http://127.0.0.1:8000/v1`; `/chat/completions` may follow.
        model: The model's name on that server.
        api_key: Sent as a bearer token; never shown.
        system_prompt: Sent before the user's message.
        connect_timeout: Seconds to connect to one address of the host, TLS included. Looking up
            the name keeps the operating system's own limit.
        read_timeout: Seconds to the next bytes of the answer.
        total_timeout: Seconds to the end of the answer, whatever arrives in between.
        max_tokens: Upper limit of the answer's length, in tokens.
        proxy: An HTTP proxy's URL, which may hold credentials; never shown.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    system_prompt: str | None = None
    connect_timeout: float = 5.0
    read_timeout: float = 30.0
    total_timeout: float = 60.0
    max_tokens: int | None = None
    proxy: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _check_url("url", self.url)
        if "?" in self.url or "#" in self.url or httpx.URL(self.url).userinfo:
            raise ConfigError("url: must hold no credentials, query or fragment")
        if self.proxy is not None:
            _check_url("proxy", self.proxy)
        if not self.model.strip() or not is_text(self.model):
            raise ConfigError(f"model: must be the name of a model, is {self.model!r}")
        if self.api_key is not None and not re.fullmatch(r"[!-~]+", self.api_key):
            raise ConfigError("api_key: must be visible ASCII characters only, at least one")
        if self.system_prompt is not None and not is_text(self.system_prompt):
            raise ConfigError("system_prompt: must be valid text, holds half a surrogate pair")
        for name in ("connect_timeout", "read_timeout", "total_timeout"):
            seconds = getattr(self, name)
            if not 0 < seconds <= _MAX_TIMEOUT:
                raise ConfigError(
                    f"{name}: must be above 0 and at most {_MAX_TIMEOUT:.0f} s, is {seconds}"
                )
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"max_tokens: must be at least 1, is {self.max_tokens}")

    @property
    def endpoint(self) -> str:
        """The URL that questions are posted to."""
        return self.url.rstrip("/").removesuffix(_PATH) + _PATH


class CloudClient:
    """Asks one cloud; a context manager, and safe to share between threads.

    Every question has a connection of its own: handoffs are rare, and an idle connection that a
    mobile network dropped would fail the next one.
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        total = cloud.total_timeout
        headers = {"Accept-Encoding": "identity", "User-Agent": "foggen"}
        if cloud.api_key is not None:
            headers["Authorization"] = f"Bearer {cloud.api_key}"
        self._http = httpx.Client(
            headers=headers,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            proxy=cloud.proxy,
            timeout=httpx.Timeout(
                min(cloud.read_timeout, total), connect=min(cloud.connect_timeout, total)
            ),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open; the client cannot be used afterwards."""
        self._http.close()

    def complete(self, question: str) -> CloudAnswer:
        """Ask, and wait for the whole answer.

        Raises:
            HandoffError: The cloud did not answer. Its reason is `cloud_unreachable`,
                `cloud_timeout`, `cloud_rejected` (HTTP 4xx), `cloud_error` (5xx) or
                `cloud_invalid` (what came is no answer).
            QuestionError: The question cannot be written as UTF-8.
        """
        secrets = self._secrets(question)
        with self._exchange(question, secrets, stream=False) as chunks:
            return read_completion(b"".join(chunks), secrets)

    def stream(self, question: str) -> Generator[str | CloudAnswer, None, None]:
        """Ask, and yield the answer's text piece by piece, at last the whole `CloudAnswer`.

        Nothing is sent before the first piece is asked for. Closing the iterator closes the
        connection. Time the consumer takes between two pieces counts towards `total_timeout`.

        Raises:
            HandoffError: As for `complete`, also after some pieces.
            QuestionError: The question cannot be written as UTF-8.
        """
        secrets = self._secrets(question)
        with self._exchange(question, secrets, stream=True) as chunks:
            answer = yield from read_stream(chunks, secrets)
        yield answer

    @contextmanager
    def _exchange(
        self, question: str, secrets: tuple[str, ...], *, stream: bool
    ) -> Iterator[Iterator[bytes]]:
        """Post the question and give the answer's bytes as they come; errors are handoff errors."""
        endpoint = self._cloud.endpoint
        body = self._body(question, stream=stream)
        accepted = "text/event-stream" if stream else "application/json"
        headers = {"Content-Type": "application/json", "Accept": accepted}
        with _Watchdog(self._cloud.total_timeout) as watchdog:
            extensions = {"trace": watchdog.watch}
            try:
                with self._http.stream(
                    "POST", endpoint, content=body, headers=headers, extensions=extensions
                ) as response:
                    chunks = _received(response, watchdog)
                    _check_head(response, chunks, accepted, secrets)
                    yield chunks
            except (httpx.HTTPError, HandoffError) as error:
                if watchdog.expired:
                    limit = f"total_timeout of {self._cloud.total_timeout} s"
                    raise HandoffError(
                        "cloud_timeout", f"cloud: {endpoint}: no whole answer within the {limit}"
                    ) from error
                if isinstance(error, HandoffError):
                    raise
                reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
                what = shown(f"{type(error).__name__}: {error}", secrets)
                raise HandoffError(reason, f"cloud: {endpoint}: {what}") from error

    def _body(self, question: str, *, stream: bool) -> bytes:
        cloud = self._cloud
        messages = [{"role": "user", "content": question}]
        if cloud.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": cloud.system_prompt})
        body: dict[str, object] = {"model": cloud.model, "messages": messages, "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        if cloud.max_tokens is not None:
            body["max_tokens"] = cloud.max_tokens
        return json.dumps(body, ensure_ascii=False).encode()

    def _secrets(self, question: str) -> tuple[str, ...]:
        """Return what no error message may repeat."""
        if not is_text(question):
            raise QuestionError("question: must be valid text, holds half a surrogate pair")
        return question, ascii(question)[1:-1], self._cloud.api_key or ""


class _Watchdog:
    """Cuts a request's connection when its time is up.

    httpx limits each read but never the whole: a server that drips bytes could hold it forever.
    """

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._fired = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    @property
    def expired(self) -> bool:
        """Whether the time is up, also if the timer's thread is late."""
        return self._fired or time.monotonic() >= self._deadline

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Take hold of the connection; given to httpx as its `trace` extension."""
        if event == "connection.connect_tcp.complete":
            with self._lock:
                # A duplicate, for TLS detaches the original.
                self._socket = info["return_value"].get_extra_info("socket").dup()
                self._cut_if_expired()

    def _expire(self) -> None:
        with self._lock:
            self._fired = True
            self._cut_if_expired()

    def _cut_if_expired(self) -> None:
        if self.expired and self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def _check_url(name: str, url: str) -> None:
    """Refuse what httpx or the resolver would fail on; a URL with credentials is not shown."""
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode()
        host.encode("idna")
        valid = (
            parsed.scheme in ("http", "https")
            and re.fullmatch(r"[\w.:-]+", host) is not None
            and 0 < (parsed.port or 80) < 65536
            and not re.search(r"\s", url)
        )
    except (httpx.InvalidURL, UnicodeError):
        valid = False
    if not valid:
        given = "not shown" if "@" in url else repr(url)
        raise ConfigError(f"{name}: must be an http:// or https:// URL with a host, is {given}")


def _received(response: httpx.Response, watchdog: _Watchdog) -> Iterator[bytes]:
    """Yield the body as it comes, up to the limits of size and time."""
    size = 0
    for chunk in response.iter_raw():
        size += len(chunk)
        if size > _MAX_BYTES:
            raise HandoffError("cloud_invalid", f"cloud: the answer exceeds {_MAX_BYTES} bytes")
        if watchdog.expired:
            raise HandoffError("cloud_timeout", "cloud: the answer takes too long")
        yield chunk


def _check_head(
    response: httpx.Response, chunks: Iterator[bytes], accepted: str, secrets: tuple[str, ...]
) -> None:
    """Raise a HandoffError, with the server's message, unless the body is what was asked for."""
    status = response.status_code
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    coding = response.headers.get("Content-Encoding", "identity").lower()
    if (status, kind, coding) == (200, accepted, "identity"):
        return
    body = b""
    with suppress(httpx.HTTPError, HandoffError):
        body = b"".join(chunks)
    said = server_message(body, secrets)
    if status != 200:
        reason = {4: "cloud_rejected", 5: "cloud_error"}.get(status // 100, "cloud_invalid")
        raise HandoffError(reason, f"cloud: HTTP {status}{said}")
    found = shown(f"{kind!r} ({coding})", secrets)
    raise HandoffError(
        "cloud_invalid", f"cloud: content type must be {accepted} (identity), is {found}{said}"
    )
