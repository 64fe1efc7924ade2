"""Who may come in: checks of the key, the host name and the browser page a request comes from."""

import hashlib
import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from foggen_runtime.errors import RequestError

# The page itself, the health check and the API's description hold nothing worth a key.
OPEN_PATHS = ("/", "/healthz", "/openapi.json")
_DRAINED = 16  # a refused body is read up to this many times its limit, so that the answer arrives


class Gate:
    """Checks what can be checked before a request's body is read."""

    def __init__(self, api_key: str | None, allowed_hosts: tuple[str, ...] | None) -> None:
        """Prepare.

        Args:
            api_key: The key that clients must send, if any.
            allowed_hosts: Host names a request may be for, without ports; None for any.
        """
        self._key = None if api_key is None else _digest(api_key)
        self._hosts = allowed_hosts

    def check(self, headers: Headers, path: str) -> None:
        """Let a request in.

        Raises:
            RequestError: A page of another site sent a browser here (status 403, or 421 for a
                foreign host name), or the key is missing or wrong (401).
        """
        host = headers.get("host", "")
        if self._hosts is not None and _host_name(host) not in self._hosts:
            message = "host: must be a name of this server; to add one, start it with --allow-host"
            raise RequestError(421, "unknown_host", message)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise RequestError(403, "foreign_origin", "origin: must be this server's own pages")
        if self._key is not None and path not in OPEN_PATHS:
            self._check_key(headers.get("authorization", ""))

    def _check_key(self, authorization: str) -> None:
        scheme, _, given = authorization.partition(" ")
        # Digests are of equal length, so the comparison takes constant time.
        right = hmac.compare_digest(_digest(given.strip()), self._key or b"")
        if scheme.lower() != "bearer" or not right:
            message = "authorization: must be `Bearer` and this server's key"
            headers = (("WWW-Authenticate", "Bearer"),)
            raise RequestError(401, "invalid_api_key", message, headers=headers)


async def read_json_body(request: Request, limit: int) -> bytes:
    """Return a request's body.

    A browser sends JSON to another site only after asking with OPTIONS, which this server refuses;
    so no page of another site can put it to work.

    Args:
        request: A request whose body is not read yet.
        limit: The most bytes.

    Raises:
        RequestError: It is not JSON (status 415) or too long (413).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        message = "content-type: must be application/json"
        raise RequestError(415, "unsupported_media_type", message)
    size = 0
    chunks = []
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif size > _DRAINED * limit:
            break
    if size > limit:
        message = f"body: must have at most {limit} bytes"
        raise RequestError(413, "body_too_large", message, headers=(("Connection", "close"),))
    return b"".join(chunks)


def is_loopback(address: str) -> bool:
    """Return whether only programs on this device can reach an address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _host_name(host: str) -> str:
    """Return a Host header's name, without its port, in lower case."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdigit() else host).lower()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
