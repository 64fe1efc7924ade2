"""Where questions are handed off to, and how long to wait and try."""

import re
from dataclasses import dataclass, field

import httpx

from foggen_runtime.errors import ConfigError
from foggen_runtime.jsonio import is_unicode

_PATH = "/chat/completions"
_MAX_SECONDS = 86_400.0
_TIMEOUTS = ("connect_timeout", "first_token_timeout", "total_timeout", "breaker_cooldown")


@dataclass(frozen=True)
class Endpoint:
    """A server that speaks OpenAI's chat completions.

    Attributes:
        url: The OpenAI-style base, e.g. `http://127.0.0.1:8000/v1`; `/chat/completions` may follow.
        model: The model's name on that server.
        api_key: Sent as a bearer token; never shown.
        proxy: An HTTP proxy's URL, which may hold credentials; never shown.
        ca_file: A PEM file of certificate authorities to trust in place of the public ones.
        stream: Whether this endpoint is asked for streams: True always, so that a server that
            hangs is told in time from one that works; False never, for servers that cannot; None
            where a stream is wanted.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    stream: bool | None = None

    def __post_init__(self) -> None:
        _check_url("url", self.url)
        if "?" in self.url or "#" in self.url or httpx.URL(self.url).userinfo:
            raise ConfigError("url: must hold no credentials, query or fragment")
        if self.proxy is not None:
            _check_url("proxy", self.proxy)
        if not self.model.strip() or not is_unicode(self.model):
            raise ConfigError(f"model: must be the name of a model, is {self.model!r}")
        if self.api_key is not None and not re.fullmatch(r"[!-~]+", self.api_key):
            raise ConfigError("api_key: must be visible ASCII characters only, at least one")

    @property
    def completions_url(self) -> str:
        """The URL that questions are posted to."""
        return self.url.rstrip("/").removesuffix(_PATH) + _PATH


@dataclass(frozen=True)
class Cloud(Endpoint):
    """The first endpoint, those that stand in for it, and how long to wait and try.

    Attributes:
        system_prompt: Sent before the user's message.
        max_tokens: Upper limit of the answer's length, in tokens.
        connect_timeout: Seconds to connect: name, TCP, proxy and TLS together.
        first_token_timeout: Seconds from sending the question to the first sign that a streamed
            answer is being written: its text, or thoughts of a reasoning model; comments and empty
            events are none. After that, seconds to each next bytes. A whole answer gives no such
            sign, and has until `total_timeout` to begin; where another endpoint can be asked, as
            long as this.
        total_timeout: Seconds to the end of the answer, thoughts included, over all retries, waits
            and endpoints.
        max_retries: How often each endpoint is asked again where that is safe.
        breaker_failures: Failures in a row after which an endpoint is left alone.
        breaker_cooldown: Seconds it is left alone for.
        fallbacks: Asked, in this order, when this endpoint fails.
    """

    system_prompt: str | None = None
    max_tokens: int | None = None
    connect_timeout: float = 5.0
    first_token_timeout: float = 30.0
    total_timeout: float = 60.0
    max_retries: int = 2
    breaker_failures: int = 5
    breaker_cooldown: float = 30.0
    fallbacks: tuple[Endpoint, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.system_prompt is not None and not is_unicode(self.system_prompt):
            raise ConfigError("system_prompt: must be valid text, holds half a surrogate pair")
        for name in _TIMEOUTS:
            seconds = getattr(self, name)
            if not 0 < seconds <= _MAX_SECONDS:
                raise ConfigError(
                    f"{name}: must be above 0 and at most {_MAX_SECONDS:.0f} s, is {seconds}"
                )
        for name, least in (("max_tokens", 1), ("max_retries", 0), ("breaker_failures", 1)):
            count = getattr(self, name)
            if count is not None and count < least:
                raise ConfigError(f"{name}: must be at least {least}, is {count}")

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All of them, in the order in which they are asked."""
        return (self, *self.fallbacks)


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
