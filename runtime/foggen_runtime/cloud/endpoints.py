"""Where to hand off questions, how long to wait, and how often to try."""

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
        ca_file: A PEM file of certificate authorities to trust instead of the public ones.
        stream: Whether to ask this endpoint for streams: True always, so that a server that hangs
            is noticed early; False never, for servers that cannot stream; None if the caller wants
            a stream.
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
            raise ConfigError("url: must not contain credentials, a query or a fragment")
        if self.proxy is not None:
            _check_url("proxy", self.proxy)
        if not self.model.strip() or not is_unicode(self.model):
            raise ConfigError(f"model: must be the name of a model, is {self.model!r}")
        if self.api_key is not None and not re.fullmatch(r"[!-~]+", self.api_key):
            raise ConfigError("api_key: must be visible ASCII characters only, and not empty")

    @property
    def completions_url(self) -> str:
        """The URL to post questions to."""
        return self.url.rstrip("/").removesuffix(_PATH) + _PATH


@dataclass(frozen=True)
class Cloud(Endpoint):
    """The endpoints to ask, how long to wait, and how often to try.

    Attributes:
        system_prompt: Sent before the user's message.
        max_tokens: The most tokens an answer may have.
        connect_timeout: Seconds to connect: name, TCP, proxy and TLS together.
        first_token_timeout: Seconds from sending the question to the first sign that a streamed
            answer is being written: its text, or a reasoning model's thoughts, but not comments or
            empty events. After that, the longest silence in seconds. A whole answer gives no such
            sign, so it has until `total_timeout` to begin, unless another endpoint can be asked:
            then this limit holds for it too.
        total_timeout: Seconds to the end of the answer, thoughts included, over all retries, waits
            and endpoints.
        max_retries: How often to ask each endpoint again when that is safe.
        breaker_failures: Failures in a row after which an endpoint is not asked for a while.
        breaker_cooldown: How long that lasts, in seconds.
        fallbacks: Endpoints to ask, in this order, when this one fails.
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
            raise ConfigError("system_prompt: must be valid Unicode, has a lone surrogate")
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
        """All endpoints, in the order in which they are asked."""
        return (self, *self.fallbacks)


def _check_url(name: str, url: str) -> None:
    """Refuse what httpx or the resolver would fail on; the message hides credentials."""
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
