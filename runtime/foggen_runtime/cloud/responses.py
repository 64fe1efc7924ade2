"""The response to one question: check its head, and read its body as it comes."""

import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime

import httpx

from foggen_runtime.cloud.completions import (
    CloudAnswer,
    StreamReader,
    failure_reason,
    read_completion,
)
from foggen_runtime.cloud.patience import Patience
from foggen_runtime.cloud.quoting import server_message, shown
from foggen_runtime.cloud.retrying import read_retry_after
from foggen_runtime.errors import HandoffError

EVENTS = "text/event-stream"
DOCUMENT = "application/json"
FAILURES = (httpx.TransportError, OSError)  # the network or the server failed
_MAX_BYTES = 8 << 20
_MESSAGE_SECONDS = 1.0  # seconds to wait for an error's message
_CODINGS = ("gzip", "x-gzip", "deflate")
_PIECE_BYTES = 1 << 16
_GZIP_OR_ZLIB = 47  # zlib's window bits for either header

Items = AsyncGenerator[str | CloudAnswer, None]
_Chunks = AsyncGenerator[bytes, None]


class IncomingAnswer:
    """Reads an answer from a response whose body has yet to come."""

    def __init__(
        self, response: httpx.Response, patience: Patience, secrets: tuple[str, ...]
    ) -> None:
        """Prepare to read.

        Args:
            response: Nothing of its body may have been read.
            patience: The time limits of the attempt.
            secrets: What no message may repeat.
        """
        self._response = response
        self._patience = patience
        self._secrets = secrets
        coding = response.headers.get("Content-Encoding", "identity")
        self._coding = coding.strip().lower() or "identity"

    async def read(self, asked: str) -> Items:
        """Yield the text's pieces and the answer last; a whole answer is one piece.

        A server may send a whole answer although it was asked for events, or the other way round:
        some can do only one of the two. If it names no content type, the one asked for counts.

        Args:
            asked: The content type that was asked for.

        Raises:
            HandoffError: It is not an answer, or not a whole one.
        """
        async with aclosing(self._received()) as chunks:
            kind = self._response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            await self._check_head(kind or asked, chunks)
            reading = self._streamed if (kind or asked) == EVENTS else self._whole
            async with aclosing(reading(chunks)) as items:
                async for item in items:
                    yield item

    async def _received(self) -> _Chunks:
        """Yield the body as it comes, decompressed, up to the limits of size and time."""
        chunks = self._response.aiter_raw()
        decompressor = Decompressor() if self._coding in _CODINGS else None
        received = size = 0
        while True:
            self._patience.check()
            chunk = await self._patience.wait(anext(chunks, None))
            if chunk is None:
                return
            received += len(chunk)
            try:
                for piece in decompressor.feed(chunk) if decompressor else (chunk,):
                    size += len(piece)
                    if max(size, received) > _MAX_BYTES:
                        raise _invalid(f"the answer exceeds {_MAX_BYTES} bytes")
                    yield piece
            except zlib.error as error:
                raise _invalid(f"the answer is not valid {self._coding}: {error}") from error

    async def _whole(self, chunks: _Chunks) -> Items:
        body = bytearray()
        async for chunk in chunks:
            body += chunk
            self._patience.renew()
        answer = read_completion(bytes(body), self._secrets)
        if answer.text:
            yield answer.text
        yield answer

    async def _streamed(self, chunks: _Chunks) -> Items:
        reader = StreamReader(self._secrets)
        async for chunk in chunks:
            for text in reader.feed(chunk):
                yield text
            if reader.done:
                break
            if reader.begun:
                self._patience.renew()
        for text in reader.finish():
            yield text
        yield reader.answer()

    async def _check_head(self, kind: str, chunks: _Chunks) -> None:
        """Raise a HandoffError with the server's message, unless the body may be an answer."""
        status = self._response.status_code
        readable = self._coding == "identity" or self._coding in _CODINGS
        if status == 200 and kind in (EVENTS, DOCUMENT) and readable:
            return
        self._patience.shorten(_MESSAGE_SECONDS)
        body = bytearray()
        with suppress(HandoffError, *FAILURES):
            async for chunk in chunks:
                body += chunk
        said = server_message(bytes(body), self._secrets)
        if status == 200:
            found = shown(f"{kind!r} ({self._coding})", self._secrets)
            rule = f"content type must be {EVENTS} or {DOCUMENT} (identity, gzip or deflate)"
            raise HandoffError("cloud_invalid", f"cloud: {rule}, is {found}{said}", status=status)
        raise HandoffError(
            failure_reason(status),
            f"cloud: HTTP {status}{said or self._moved()}",
            status=status,
            retry_after=read_retry_after(self._response.headers, datetime.now(UTC)),
        )

    def _moved(self) -> str:
        """Say where a redirect leads; following it would pass the key and the question on.

        Credentials and query may be secrets, so they are left out.
        """
        location = self._response.headers.get("Location")
        if self._response.status_code // 100 != 3 or not location:
            return ""
        try:
            target = self._response.url.join(location)
        except httpx.InvalidURL:
            return ""
        place = f"{target.scheme}://{target.netloc.decode()}{target.path}"
        place = shown(place.removesuffix("/chat/completions"), self._secrets)
        advice = "if the cloud has moved there, change its URL to that"
        return f": it redirects to {place}, which is not followed; {advice}"


class Decompressor:
    """Undoes a compression that the server used although it was asked not to.

    httpx would inflate a bomb all at once, and does not know the old name `x-gzip`.
    """

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield a chunk's content in pieces of at most 64 KiB, so that a bomb is noticed in time.

        Raises:
            zlib.error: It is not compressed that way.
        """
        while not self._zlib.eof:
            piece = self._zlib.decompress(chunk, _PIECE_BYTES)
            chunk = self._zlib.unconsumed_tail
            if piece:
                yield piece
            if not chunk and len(piece) < _PIECE_BYTES:
                return


def _invalid(what: str) -> HandoffError:
    return HandoffError("cloud_invalid", f"cloud: {what}")
