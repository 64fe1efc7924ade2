"""`/v1/chat/completions`: from a request to an answer, whole or as it comes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from foggen_runtime.errors import RequestError
from foggen_runtime.handoff.policy import Route
from foggen_runtime.result import BundleRef, Result
from foggen_runtime.serving.desk import AbandonedError, ClosedError, Desk, Job
from foggen_runtime.serving.gate import read_json_body
from foggen_runtime.serving.ledger import Ledger
from foggen_runtime.serving.replies import (
    Document,
    Reply,
    as_request_error,
    error_document,
    failure,
    provenance_headers,
)
from foggen_runtime.serving.requests import ChatRequest, read_chat_request
from foggen_runtime.serving.settings import Settings


@dataclass(frozen=True)
class Chat:
    """The endpoint.

    Attributes:
        bundle: Who answers.
        desk: Asks.
        ledger: Counts.
        settings: The limits.
        route: Who may answer; unless it is `auto`, requests may not choose.
    """

    bundle: BundleRef
    desk: Desk
    ledger: Ledger
    settings: Settings
    route: Route

    async def answer(self, request: Request) -> Response:
        """Put a request's question in line.

        Raises:
            RequestError: It cannot be served, or the line is full.
        """
        settings = self.settings
        try:
            async with asyncio.timeout(settings.body_timeout):
                body = await read_json_body(request, settings.max_body)
        except TimeoutError as error:
            message = f"body: must arrive within {settings.body_timeout:g} s"
            raise RequestError(408, "body_timeout", message) from error
        wanted = read_chat_request(body, settings.max_question)
        if self.route != "auto" and wanted.route not in (None, self.route):
            message = f"x_foggen.route: must be {self.route}, which is all this server allows"
            raise RequestError(400, "unsupported_value", message, "x_foggen.route")
        return _ChatResponse(self, wanted, self.desk.submit(wanted))


class _ChatResponse(Response):
    """Waits for the answer and sends it.

    Nothing is sent before the first piece of text, so that even a stream can fail with its own
    status until then.
    """

    def __init__(self, chat: Chat, wanted: ChatRequest, job: Job) -> None:
        super().__init__()
        self._chat = chat
        self._wanted = wanted
        self._job = job
        self._reply = Reply(chat.bundle)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; if the client goes away, cancel the question."""
        async with _attended(receive, self._chat.desk, self._job):
            event = await self._next()
            if self._wanted.stream and not (isinstance(event, Result) and failure(event)):
                await self._send_stream(event, send)
                return
            while not isinstance(event, Result):
                event = await self._next()
            await self._whole(event)(scope, receive, send)

    async def _next(self) -> str | Result:
        """Wait for the next piece, and count the result.

        Raises:
            ClientDisconnect: The client went away.
            RequestError: Asking failed, or the server is shutting down.
        """
        try:
            event = await self._job.next()
        except AbandonedError as error:
            raise ClientDisconnect from error
        except (ClosedError, asyncio.CancelledError) as error:
            # uvicorn cancels what still runs after the grace period; tell the client.
            message = "server: is shutting down"
            raise RequestError(503, "shutting_down", message) from error
        except Exception as error:
            raise as_request_error(error) from error
        if isinstance(event, Result):
            self._chat.ledger.answered(event)
        return event

    def _whole(self, result: Result) -> Response:
        headers = {"X-Request-Id": self._reply.id, **provenance_headers(result)}
        if error := failure(result):
            self._chat.ledger.failed(error.code)
            # The handoff has made its own retries; this header keeps OpenAI's clients from adding
            # more.
            headers["X-Should-Retry"] = "false"
            return JSONResponse(error_document(error, result), error.status, headers)
        return JSONResponse(self._reply.completion(result), headers=headers)

    async def _send_stream(self, event: str | Result, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"x-accel-buffering", b"no"),
            (b"x-request-id", self._reply.id.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for data in self._events(event):
            body = f"data: {data}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self, event: str | Result) -> AsyncIterator[str]:
        """Yield the data of each server-sent event; the last is DONE or an error."""
        reply, pieces = self._reply, 0
        yield _dumps(reply.first_chunk())
        try:
            while not isinstance(event, Result):
                yield _dumps(reply.text_chunk(event))
                pieces += 1
                event = await self._next()
        except RequestError as error:
            self._chat.ledger.failed(error.code)
            yield _dumps(error_document(error))
            return
        if failed := failure(event):
            self._chat.ledger.failed(failed.code)
            yield _dumps(error_document(failed, event))
            return
        if event.answer is not None and not pieces:
            yield _dumps(reply.text_chunk(event.answer))
        yield _dumps(reply.last_chunk(event))
        if self._wanted.include_usage:
            yield _dumps(reply.usage_chunk(event))
        yield "[DONE]"


@asynccontextmanager
async def _attended(receive: Receive, desk: Desk, job: Job) -> AsyncIterator[None]:
    """Cancel the question when its client goes away or nobody reads any more."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        desk.cancel(job)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        desk.cancel(job)


def _dumps(document: Document) -> str:
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
