"""How the server runs, checked before anything is opened."""

import re
from dataclasses import dataclass, field

from foggen_runtime.errors import ConfigError
from foggen_runtime.model.decoding import DecodingMode

_MIN_KEY = 16


@dataclass(frozen=True)
class Settings:
    """How the server runs.

    Attributes:
        host: Name or address to listen on; any but loopback needs a key.
        port: TCP port; 0 takes a free one.
        api_key: What clients must send as a bearer token; never shown.
        allowed_hosts: Further names that `Host` may have on loopback, e.g. behind a proxy.
        mode: How to decode.
        max_new_tokens: The most tokens of a local answer, whatever a request says.
        hold_options: Let the answer be only one of the question's options, if it has any.
        queue: The most questions in line.
        handoffs: The most questions that wait for the cloud while another is asked here.
        max_body: The most bytes of a request.
        max_question: The most characters of a question.
        grace: Seconds that running questions have left when the server is told to stop.
        max_connections: The most open connections; None for what the limit of open files allows.
        max_connections_per_address: The most of one address; None for half of them.
        header_timeout: Seconds for a request's header to arrive.
        body_timeout: Seconds for a request's body to arrive.
        send_timeout: Seconds within which a client must take some of its answer.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    mode: DecodingMode = "constrained"
    max_new_tokens: int = 256
    hold_options: bool = False
    queue: int = 32
    handoffs: int = 8
    max_body: int = 1 << 20
    max_question: int = 1 << 15
    grace: float = 60.0
    max_connections: int | None = None
    max_connections_per_address: int | None = None
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    send_timeout: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise ConfigError(f"port: must be within [0, 65535], is {self.port}")
        for name, least in (
            ("queue", 0),
            ("handoffs", 0),
            ("max_body", 1),
            ("max_question", 1),
            ("max_new_tokens", 1),
            ("max_connections", 1),
            ("max_connections_per_address", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}: must be at least {least}, is {value}")
        for name in ("header_timeout", "body_timeout", "send_timeout"):
            if not 0 < (seconds := getattr(self, name)) <= 86_400:
                raise ConfigError(f"{name}: must be above 0 and at most 86400 s, is {seconds}")
        if not 0 <= self.grace <= 86_400:
            raise ConfigError(f"grace: must be within [0, 86400] s, is {self.grace}")
        if self.api_key is not None and not re.fullmatch(rf"[!-~]{{{_MIN_KEY},}}", self.api_key):
            raise ConfigError(
                f"api_key: must be at least {_MIN_KEY} visible ASCII characters, "
                f"has {len(self.api_key)} characters"
            )
