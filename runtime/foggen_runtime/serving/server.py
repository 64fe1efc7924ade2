"""The listening socket, and the server's life from start to end."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version

import uvicorn

from foggen_runtime.ask.asking import Request
from foggen_runtime.ask.foggen import Foggen
from foggen_runtime.cloud.cancellation import Cancellation
from foggen_runtime.errors import ConfigError
from foggen_runtime.model.decoding import Decoding
from foggen_runtime.result import BundleRef, Result
from foggen_runtime.serving.app import make_app
from foggen_runtime.serving.chat import Chat
from foggen_runtime.serving.connections import Connections, Limits
from foggen_runtime.serving.desk import Ask, Desk
from foggen_runtime.serving.gate import Gate, is_loopback
from foggen_runtime.serving.ledger import Ledger
from foggen_runtime.serving.listening import ListeningServer
from foggen_runtime.serving.repeats import few_repeats
from foggen_runtime.serving.requests import ChatRequest
from foggen_runtime.serving.settings import Settings
from foggen_runtime.serving.turns import Turns
from foggen_runtime.text.choice import question_options

_BACKLOG = 2048  # connections; uvicorn's default
_KEEP_ALIVE = 75  # seconds
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Server:
    """Serves one opened bundle until it is told to stop.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, foggen: Foggen, settings: Settings, listener: socket.socket) -> None:
        """Prepare to serve; clients that connect from now on wait for `run`.

        Args:
            foggen: The bundle; one opened with `Turns` answers while handoffs wait.
            settings: How to serve it.
            listener: What `open_socket` returned for these settings.

        Raises:
            ConfigError: This process may not open as many files as the settings need.
        """
        self._foggen = foggen
        connections = Connections(Limits.of(settings))
        listener.listen(_BACKLOG)
        host, port = listener.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        hosts = (*_LOOPBACK_NAMES, host, *(name.lower() for name in settings.allowed_hosts))
        gate = Gate(settings.api_key, hosts if is_loopback(host) else None)
        manifest = foggen.model.bundle.manifest
        bundle = BundleRef(manifest.model.name, manifest.sha256)
        threads = 1 + settings.handoffs if isinstance(foggen.turns, Turns) else 1
        desk = Desk(_asker(foggen, settings), threads, settings.queue)
        ledger = Ledger(bundle, version("foggen"), desk, connections)
        config = uvicorn.Config(
            make_app(Chat(bundle, desk, ledger, settings, foggen.policy.route), gate),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=settings.grace,  # type: ignore[arg-type]
        )
        self._uvicorn = ListeningServer(config, listener, connections)

    def run(self, announce: Callable[[str], object] = lambda _: None) -> None:
        """Serve until `stop`, SIGTERM or SIGINT; then finish the questions that were accepted.

        Meanwhile, deliver what waits in the outbox, as the policy says. In the main thread the
        signals stay ignored afterwards, so that a late one does not change how the process ends.

        Args:
            announce: Called with the URL once requests are answered and signals are handled.
        """
        in_main = threading.current_thread() is threading.main_thread()
        if in_main:
            # uvicorn installs its own handlers later, and removes them before all is done.
            for number in _SIGNALS:
                signal.signal(number, lambda *_: self.stop())
        self._uvicorn.on_start = lambda: announce(self.url)
        with few_repeats(), self._foggen.flushing():
            self._uvicorn.run()
        if in_main:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def stop(self) -> None:
        """Make `run` end, from any thread."""
        self._uvicorn.should_exit = True


def _asker(foggen: Foggen, settings: Settings) -> Ask:
    room = len(foggen.model.bundle.manifest.template.answer_prefix_ids)

    def ask(request: ChatRequest, cancellation: Cancellation) -> Iterator[str | Result]:
        limit = settings.max_new_tokens
        if request.max_tokens is not None:
            limit = min(limit, request.max_tokens + room)
        options = question_options(request.question) if settings.hold_options else ()
        decoding = Decoding(settings.mode, limit, options or None)
        route = request.route or foggen.policy.route
        # A client that wants the whole answer does not need a stream from the cloud either.
        wanted = Request(request.question, route, decoding, request.stream, cancellation)
        return foggen.run(wanted, request.tau)

    return ask


def open_socket(settings: Settings) -> socket.socket:
    """Return a socket bound to the settings' address; it does not listen yet.

    Raises:
        ConfigError: It cannot be bound, or others can reach the address and there is no key.
    """
    where = f"host {settings.host}, port {settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host or "0.0.0.0",
            settings.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{where}: is not an address of this device: {error}") from error
    if not is_loopback(str(address[0])) and settings.api_key is None:
        raise ConfigError(
            f"{where}: others can reach this address, so it needs an API key; set --api-key-file "
            "or the environment variable FOGGEN_API_KEY"
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(f"{where}: cannot listen here: {error}") from error
    return listener
