"""What surrounds every page: who may come in, how errors look, what is logged. Never content."""

import logging
import time
import traceback

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foggen_runtime.errors import RequestError
from foggen_runtime.serving.gate import Gate
from foggen_runtime.serving.ledger import Ledger
from foggen_runtime.serving.replies import as_request_error, error_document

_LOG = logging.getLogger(__name__)
_STATUS_CODES = {404: "not_found", 405: "method_not_allowed"}


class Frame:
    """An ASGI middleware that checks requests and turns exceptions into OpenAI's kind of errors."""

    def __init__(self, app: ASGIApp, gate: Gate, ledger: Ledger, paths: frozenset[str]) -> None:
        """Wrap an application.

        Args:
            app: The pages.
            gate: Lets requests in.
            ledger: Counts errors.
            paths: The paths that may be logged; others could be content.
        """
        self._app = app
        self._gate = gate
        self._ledger = ledger
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            self._gate.check(Headers(scope=scope), scope["path"])
            await self._app(scope, receive, send_on)
        except ClientDisconnect:
            self._ledger.cancelled()
        except Exception as error:
            refused = self._understand(error)
            if not status:
                headers = dict(refused.headers)
                response = JSONResponse(error_document(refused), refused.status, headers)
                await response(scope, receive, send_on)
        milliseconds = 1e3 * (time.perf_counter() - started)
        path = scope["path"] if scope["path"] in self._paths else "(another path)"
        _LOG.info("%s %s %d %.0f ms", scope["method"], path, status, milliseconds)

    def _understand(self, error: Exception) -> RequestError:
        """Return what the client is told; log an unexpected error, without its message."""
        refused = as_request_error(error)
        self._ledger.failed(refused.code)
        if refused.status == 500:
            cause = error.__cause__ or error
            frames = traceback.extract_tb(cause.__traceback__)
            where = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
            _LOG.error("%s at %s", type(cause).__name__, where)
        return refused


def http_error(status: int, headers: dict[str, str] | None) -> RequestError:
    """Return the error for a path or method that is not served."""
    code = _STATUS_CODES.get(status, "http_error")
    message = f"{code.replace('_', ' ')}: see /openapi.json for what is served"
    return RequestError(status, code, message, headers=tuple((headers or {}).items()))
