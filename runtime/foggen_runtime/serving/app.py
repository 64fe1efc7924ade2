"""The server's pages."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from foggen_runtime.errors import RequestError
from foggen_runtime.serving.chat import Chat
from foggen_runtime.serving.frame import Frame, http_error
from foggen_runtime.serving.gate import Gate
from foggen_runtime.serving.replies import Document

_JOIN_SECONDS = 5.0
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


# Path to method and the page's name in `_Pages`.
ROUTES = {
    "/": ("GET", "page"),
    "/healthz": ("GET", "health"),
    "/metrics": ("GET", "metrics"),
    "/status": ("GET", "status"),
    "/openapi.json": ("GET", "description"),
    "/v1/models": ("GET", "models"),
    "/v1/models/{model:path}": ("GET", "model"),
    "/v1/chat/completions": ("POST", "chat"),
}


def make_app(chat: Chat, gate: Gate) -> Starlette:
    """Return the ASGI application."""
    pages = _Pages(chat)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        chat.desk.close()
        await asyncio.to_thread(chat.desk.join, _JOIN_SECONDS)

    return Starlette(
        routes=[
            Route(path, getattr(pages, name), methods=[method])
            for path, (method, name) in ROUTES.items()
        ],
        middleware=[Middleware(Frame, gate=gate, ledger=chat.ledger, paths=frozenset(ROUTES))],
        exception_handlers={HTTPException: _refuse},
        lifespan=lifespan,
    )


class _Pages:
    def __init__(self, chat: Chat) -> None:
        data = files("foggen_runtime.serving")
        self._chat = chat
        self.chat = chat.answer
        self._page = data.joinpath("status.html").read_bytes()
        self._description = data.joinpath("openapi.json").read_bytes()
        self._created = int(time.time())

    async def page(self, _: Request) -> Response:
        headers = {"Content-Security-Policy": _PAGE_POLICY}
        return Response(self._page, media_type="text/html", headers=headers)

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def metrics(self, _: Request) -> Response:
        return Response(self._chat.ledger.exposition(), headers={"Content-Type": _METRICS_TYPE})

    async def status(self, _: Request) -> Response:
        return JSONResponse(self._chat.ledger.status())

    async def description(self, _: Request) -> Response:
        return Response(self._description, media_type="application/json")

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        if request.path_params["model"] != self._chat.bundle.name:
            message = "model: must be the one served here, see /v1/models"
            raise RequestError(404, "model_not_found", message, "model")
        return JSONResponse(self._model())

    def _model(self) -> Document:
        return {
            "id": self._chat.bundle.name,
            "object": "model",
            "created": self._created,
            "owned_by": "foggen",
        }


async def _refuse(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    raise http_error(error.status_code, dict(error.headers or {}))
