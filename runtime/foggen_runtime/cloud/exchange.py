"""One attempt: a question posted to one endpoint, and the bytes that come back."""

import errno
import json
import os
import re
import time
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Self

import httpcore
import httpx

from foggen_runtime.cloud.breaker import Breaker, BreakerLimits
from foggen_runtime.cloud.completions import (
    CloudAnswer,
    StreamReader,
    is_text,
    plain_name,
    read_completion,
    server_message,
    shown,
)
from foggen_runtime.cloud.connections import FAILURES, Connections
from foggen_runtime.cloud.endpoints import Cloud, Endpoint
from foggen_runtime.cloud.patience import Patience
from foggen_runtime.cloud.retrying import read_retry_after
from foggen_runtime.errors import ConfigError, HandoffError, QuestionError

_MAX_BYTES = 8 << 20
_MESSAGE_SECONDS = 1.0  # how long the message of an error is waited for

Items = AsyncGenerator[str | CloudAnswer, None]


@dataclass(frozen=True)
class Query:
    """A question on its way.

    Attributes:
        question: What the user said.
        key: Names it to the server, the same in every attempt.
        stream: Whether the answer is to come in pieces.
    """

    question: str
    key: str
    stream: bool

    @classmethod
    def of(cls, question: str, key: str | None, *, stream: bool) -> Self:
        """Check a question, and make a key if none is given.

        Raises:
            QuestionError: The question cannot be written as UTF-8.
            ConfigError: The key is no header's value.
        """
        if not is_text(question):
            raise QuestionError("question: must be valid text, holds half a surrogate pair")
        if key is None:
            key = str(uuid.uuid4())
        elif not re.fullmatch(r"[!-~]{1,255}", key):
            rule = "must be 1 to 255 visible ASCII characters"
            raise ConfigError(f"idempotency_key: {rule}, is {key!r}")
        return cls(question, key, stream)

    @property
    def accepted(self) -> str:
        """The content type of an answer."""
        return "text/event-stream" if self.stream else "application/json"


class Port:
    """One endpoint, with its connections and its breaker.

    Attributes:
        breaker: To be asked before each attempt.
        connections: May be opened ahead.
    """

    def __init__(
        self, endpoint: Endpoint, cloud: Cloud, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Connect to nothing yet.

        Raises:
            ConfigError: The endpoint's `ca_file` cannot be used.
        """
        limits = BreakerLimits(cloud.breaker_failures, cloud.breaker_cooldown)
        self.breaker = Breaker(endpoint.url, limits, clock)
        self.connections = Connections(endpoint, cloud.connect_timeout)
        self._endpoint = endpoint
        self._cloud = cloud
        headers = {
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "foggen",
        }
        if endpoint.api_key is not None:
            headers["Authorization"] = f"Bearer {endpoint.api_key}"
        self._http = httpx.AsyncClient(
            headers=headers,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=None,  # `Patience` limits what httpx cannot
            transport=self.connections,
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close what is open."""
        await self._http.aclose()

    async def attempt(self, query: Query, patience: Patience) -> Items:
        """Ask once: yield the text's pieces, if it comes in pieces, and the answer last.

        Raises:
            HandoffError: There is no answer, or no whole one.
        """
        secrets = (query.question, ascii(query.question)[1:-1], self._endpoint.api_key or "")
        try:
            response = await patience.wait(
                self._http.send(self._request(query, patience), stream=True)
            )
            async with aclosing(response), aclosing(_received(response, patience)) as chunks:
                await _check_head(response, chunks, patience, query.accepted, secrets)
                reading = _streamed if query.stream else _whole
                async with aclosing(reading(chunks, patience, secrets)) as items:
                    async for item in items:
                        if isinstance(item, CloudAnswer):
                            item = self._signed(item, response, patience.sends, secrets)
                        yield item
        except HandoffError as error:
            error.sent = patience.sends > 0
            raise
        except FAILURES as error:
            raise self._failure(error, patience.sends > 0, secrets) from error

    def _request(self, query: Query, patience: Patience) -> httpx.Request:
        cloud = self._cloud
        messages = [{"role": "user", "content": query.question}]
        if cloud.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": cloud.system_prompt})
        body: dict[str, object] = {
            "model": self._endpoint.model,
            "messages": messages,
            "stream": query.stream,
        }
        if query.stream:
            body["stream_options"] = {"include_usage": True}
        if cloud.max_tokens is not None:
            body["max_tokens"] = cloud.max_tokens
        return self._http.build_request(
            "POST",
            self._endpoint.completions_url,
            content=json.dumps(body, ensure_ascii=False).encode(),
            headers={"Accept": query.accepted, "Idempotency-Key": query.key},
            extensions={"trace": patience.watch},
        )

    def _signed(
        self, answer: CloudAnswer, response: httpx.Response, sends: int, secrets: tuple[str, ...]
    ) -> CloudAnswer:
        """Note where an answer came from."""
        request_id = plain_name(response.headers.get("X-Request-ID"), secrets)
        return replace(
            answer,
            endpoint=self._endpoint.url,
            attempts=sends,
            request_id=request_id or answer.request_id,
        )

    def _failure(self, error: Exception, sent: bool, secrets: tuple[str, ...]) -> HandoffError:
        """Say what went wrong on the way."""
        broken = isinstance(error, (httpcore.ProtocolError, httpx.ProtocolError))
        reason = "cloud_invalid" if sent and broken else "cloud_unreachable"
        what = shown(f"{type(error).__name__}: {error}{_root(error)}", secrets)
        message = f"cloud: {self._endpoint.completions_url}: {what}"
        return HandoffError(reason, message, sent=sent)


async def _received(response: httpx.Response, patience: Patience) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes, up to the limits of size and time."""
    chunks = response.aiter_raw()
    size = 0
    while True:
        patience.check()
        chunk = await patience.wait(anext(chunks, None))
        if chunk is None:
            return
        size += len(chunk)
        if size > _MAX_BYTES:
            raise HandoffError("cloud_invalid", f"cloud: the answer exceeds {_MAX_BYTES} bytes")
        yield chunk


async def _whole(
    chunks: AsyncGenerator[bytes, None], patience: Patience, secrets: tuple[str, ...]
) -> Items:
    body = bytearray()
    patience.renew()
    async for chunk in chunks:
        body += chunk
        patience.renew()
    yield read_completion(bytes(body), secrets)


async def _streamed(
    chunks: AsyncGenerator[bytes, None], patience: Patience, secrets: tuple[str, ...]
) -> Items:
    reader = StreamReader(secrets)
    begun = False
    async for chunk in chunks:
        for text in reader.feed(chunk):
            begun = True
            yield text
        if reader.done:
            break
        if begun:
            patience.renew()
    for text in reader.finish():
        yield text
    yield reader.answer()


async def _check_head(
    response: httpx.Response,
    chunks: AsyncGenerator[bytes, None],
    patience: Patience,
    accepted: str,
    secrets: tuple[str, ...],
) -> None:
    """Raise a HandoffError, with the server's message, unless the body is what was asked for."""
    status = response.status_code
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    coding = response.headers.get("Content-Encoding", "identity").lower()
    if (status, kind, coding) == (200, accepted, "identity"):
        return
    patience.shorten(_MESSAGE_SECONDS)
    body = bytearray()
    with suppress(HandoffError, *FAILURES):
        async for chunk in chunks:
            body += chunk
    said = server_message(bytes(body), secrets)
    if status == 200:
        found = shown(f"{kind!r} ({coding})", secrets)
        rule = f"content type must be {accepted} (identity)"
        raise HandoffError("cloud_invalid", f"cloud: {rule}, is {found}{said}", status=status)
    raise HandoffError(
        {4: "cloud_rejected", 5: "cloud_error"}.get(status // 100, "cloud_invalid"),
        f"cloud: HTTP {status}{said}",
        status=status,
        retry_after=read_retry_after(response.headers, datetime.now(UTC)),
    )


def _root(error: BaseException) -> str:
    """Name the operating system's error behind one that only says that connecting failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if isinstance(cause, OSError) and cause.errno and cause.errno in errno.errorcode:
            return f" ({os.strerror(cause.errno)})"
        cause = cause.__cause__
    return ""
