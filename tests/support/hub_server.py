"""A stand-in for a Hugging Face hub on loopback, enough of one for `snapshot_download`.

Pass its address to huggingface_hub as `endpoint`, or as `HF_ENDPOINT` to a subprocess (it is read
when huggingface_hub is imported).
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ROUTE = re.compile(
    r"/api/models/(?P<repo>[^/]+/[^/]+)(/(?P<listing>revision|tree)/(?P<revision>[^/]+))?"
    r"|/(?P<file_repo>[^/]+/[^/]+)/resolve/(?P<file_revision>[^/]+)/(?P<file>.+)"
)


@dataclass(frozen=True)
class HubRepository:
    """A directory to be served as the repository `name`, with the one revision `main`.

    Attributes:
        refusal: `(HTTP status, X-Error-Code)` that every request for a file is answered with,
            e.g. `(403, "GatedRepo")`.
    """

    name: str
    directory: Path
    refusal: tuple[int, str] | None = None

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Contents by path, as they were at the first request."""
        paths = (path for path in sorted(self.directory.rglob("*")) if path.is_file())
        return {path.relative_to(self.directory).as_posix(): path.read_bytes() for path in paths}

    @cached_property
    def commit(self) -> str:
        """A commit hash that follows from the contents."""
        listing = [(name, _object_id(content)) for name, content in self.files.items()]
        return hashlib.sha1(repr(listing).encode()).hexdigest()


@dataclass
class Hub:
    """The address to pass as the hub's endpoint, and the requests seen, as `GET /path`."""

    endpoint: str
    requests: list[str] = field(default_factory=list)


@contextmanager
def running_hub(*repositories: HubRepository) -> Iterator[Hub]:
    """Serve repositories on a free port of loopback until the block ends."""
    server = _Server({repository.name: repository for repository in repositories})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, repositories: Mapping[str, HubRepository]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self.hub = Hub(f"http://127.0.0.1:{self.server_port}")


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # HTTP/1.0: a kept-alive connection would outlive the server's shutdown

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.hub.requests.append(f"{self.command} {path}")
        route = _ROUTE.fullmatch(path)
        if route is None:
            return self._refuse(404, "EntryNotFound")
        repository = self.server.repositories.get(route["repo"] or route["file_repo"])
        if repository is None:
            return self._refuse(401, "RepoNotFound")
        if (route["revision"] or route["file_revision"] or "main") not in (
            "main",
            repository.commit,
        ):
            return self._refuse(404, "RevisionNotFound")
        if route["file"]:
            return self._send_file(repository, route["file"])
        listing = _tree(repository) if route["listing"] == "tree" else _info(repository)
        return self._send_json(listing)

    do_HEAD = do_GET  # noqa: N815 (the name that http.server calls)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def _send_file(self, repository: HubRepository, name: str) -> None:
        if repository.refusal is not None:
            return self._refuse(*repository.refusal)
        if name not in repository.files:
            return self._refuse(404, "EntryNotFound")
        content = repository.files[name]
        headers = {"ETag": f'"{_object_id(content)}"', "X-Repo-Commit": repository.commit}
        status = 200
        if span := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(span[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, status = content[start:], 206
        return self._send(status, content, headers)

    def _send_json(self, document: object) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _info(repository: HubRepository) -> dict[str, object]:
    return {
        "id": repository.name,
        "modelId": repository.name,
        "sha": repository.commit,
        "private": False,
        "tags": [],
        "siblings": [
            {"rfilename": name, "size": len(content), "blobId": _object_id(content)}
            for name, content in repository.files.items()
        ],
    }


def _tree(repository: HubRepository) -> list[dict[str, object]]:
    return [
        {"type": "file", "path": name, "size": len(content), "oid": _object_id(content)}
        for name, content in repository.files.items()
    ]


def _object_id(content: bytes) -> str:
    """Return a file's git object id."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
