"""One attempt: post a question to one endpoint, and read what comes back."""

import errno
import json
import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Self

import httpx

from foggen_runtime.cloud.breaker import Breaker, BreakerLimits
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.cloud.connections import Connections
from foggen_runtime.cloud.endpoints import Cloud, Endpoint
from foggen_runtime.cloud.patience import Patience
from foggen_runtime.cloud.quoting import plain_name, shown
from foggen_runtime.cloud.responses import (
    DOCUMENT,
    EVENTS,
    FAILURES,
    IncomingAnswer,
    Items,
)
from foggen_runtime.errors import ConfigError, HandoffError, QuestionError
from foggen_runtime.jsonio import is_unicode


@dataclass(frozen=True)
class Query:
    """A question to ask.

    Attributes:
        question: What the user said.
        key: Identifies it to the server, the same in every attempt.
        stream: Whether the caller wants the answer in pieces.
    """

    question: str
    key: str
    stream: bool

    @classmethod
    def of(cls, question: str, key: str | None, *, stream: bool) -> Self:
        """Check a question, and make up a key if none is given.

        Raises:
            QuestionError: The question cannot be written as UTF-8.
            ConfigError: The key is no header's value.
        """
        if not is_unicode(question):
            raise QuestionError("question: must be valid Unicode, has a lone surrogate")
        if key is None:
            key = str(uuid.uuid4())
        elif not re.fullmatch(r"[!-~]{1,255}", key):
            rule = "must be 1 to 255 visible ASCII characters"
            raise ConfigError(f"idempotency_key: {rule}, is {key!r}")
        return cls(question, key, stream)


class Port:
    """One endpoint, with its connections and its breaker.

    Attributes:
        breaker: To be consulted before each attempt.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        cloud: Cloud,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            endpoint: Where to.
            cloud: Says the limits.
            clock: Times the breaker, in seconds.
            transport: Carries the requests instead of our own connections.

        Raises:
            ConfigError: The endpoint's `ca_file` cannot be used.
        """
        limits = BreakerLimits(cloud.breaker_failures, cloud.breaker_cooldown)
        self.breaker = Breaker(endpoint.url, limits, clock)
        self._transport = transport or Connections(endpoint, cloud.connect_timeout)
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
            timeout=None,  # `Patience` sets all limits; httpx lacks some
            transport=self._transport,
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close what is open."""
        await self._http.aclose()

    def warm(self) -> None:
        """Start connecting, if the connections are ours."""
        if isinstance(self._transport, Connections):
            self._transport.warm()

    def streams(self, query: Query) -> bool:
        """Whether to ask the endpoint for a stream: as it is set, or else if one is wanted."""
        return query.stream if self._endpoint.stream is None else self._endpoint.stream

    async def attempt(self, query: Query, patience: Patience) -> Items:
        """Ask once: yield the text's pieces, and the answer last.

        Raises:
            HandoffError: There is no answer, or no whole one.
        """
        secrets = (query.question, ascii(query.question)[1:-1], self._endpoint.api_key or "")
        try:
            response = await patience.wait(
                self._http.send(self._request(query, patience), stream=True)
            )
            incoming = IncomingAnswer(response, patience, secrets)
            asked = EVENTS if self.streams(query) else DOCUMENT
            async with aclosing(response), aclosing(incoming.read(asked)) as items:
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
        streamed = self.streams(query)
        body: dict[str, object] = {
            "model": self._endpoint.model,
            "messages": messages,
            "stream": streamed,
        }
        if streamed:
            body["stream_options"] = {"include_usage": True}
        if cloud.max_tokens is not None:
            body["max_tokens"] = cloud.max_tokens
        return self._http.build_request(
            "POST",
            self._endpoint.completions_url,
            content=json.dumps(body, ensure_ascii=False).encode(),
            headers={"Accept": EVENTS if streamed else DOCUMENT, "Idempotency-Key": query.key},
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
        """Say what went wrong with the connection."""
        broken = isinstance(error, httpx.ProtocolError)
        reason = "cloud_invalid" if sent and broken else "cloud_unreachable"
        what = shown(f"{type(error).__name__}: {error}{_root(error)}", secrets)
        message = f"cloud: {self._endpoint.completions_url}: {what}"
        return HandoffError(reason, message, sent=sent)


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
