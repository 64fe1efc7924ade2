"""`foggen serve`: a bundle behind the chat completions API of OpenAI."""

import logging
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from foggen_runtime.commands.command_line import FILE, BundleType, Command, exit_codes
from foggen_runtime.commands.options import (
    BundleArguments,
    CloudArguments,
    DecodingArguments,
    PolicyArguments,
    bundle_options,
    check_cloud,
    cloud_options,
    decoding_options,
    policy_options,
    take,
)
from foggen_runtime.errors import ConfigError

SERVER_KEY_VARIABLE = "FOGGEN_API_KEY"
_EXTRA = ("starlette", "uvicorn", "prometheus_client")


@click.command(cls=Command, epilog=exit_codes(2, 3, 9, 130, special={0: "told to stop"}))
@click.argument("bundle", type=BundleType())
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, help="Port; 0 takes any free one.")
@click.option(
    "--api-key-file",
    type=FILE,
    help="A file with the key that clients must send.  [default: $FOGGEN_API_KEY]",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Another host name that requests may use on a loopback address; may be repeated.",
)
@policy_options
@cloud_options
@decoding_options
@bundle_options
@click.option(
    "--queue", default=32, show_default=True, help="Most questions that may wait in line."
)
@click.option(
    "--handoffs",
    default=8,
    show_default=True,
    help="Most questions that may wait for the cloud while another is asked here.",
)
@click.option("--max-body", default=1 << 20, show_default=True, help="Most bytes in a request.")
@click.option(
    "--max-question", default=1 << 15, show_default=True, help="Most characters in a question."
)
@click.option(
    "--grace",
    default=60.0,
    show_default=True,
    help="Seconds to finish running questions when told to stop.",
)
@click.option(
    "--max-connections",
    type=int,
    help="Most open connections. [default: what `ulimit -n` allows, at most 1024]",
)
@click.option(
    "--max-connections-per-address",
    type=int,
    help="Most open connections from one address. [default: half of all]",
)
@click.option(
    "--header-timeout",
    default=10.0,
    show_default=True,
    help="Seconds for a request's header to arrive.",
)
@click.option(
    "--body-timeout",
    default=30.0,
    show_default=True,
    help="Seconds for a request's body to arrive.",
)
@click.option(
    "--send-timeout",
    default=30.0,
    show_default=True,
    help="Seconds within which a client must take some of its answer.",
)
@click.option("--log-requests", is_flag=True, help="Log each request, without its content.")
def serve(**options: Any) -> None:
    """Serve BUNDLE (a directory or a hub id) to clients of OpenAI's API.

    Prints the address it listens on, and runs until SIGTERM or SIGINT. The page at / shows what it
    is doing. On any address but loopback, clients must send a key. Needs the extra `serve`: pip
    install 'foggen[serve]'.

    \b
    Example:
      foggen serve foggen-int4 --port 8080 --cloud-url http://127.0.0.1:8000/v1 \\
        --cloud-model big-model
    """
    bundle = take(BundleArguments, options)
    cloud = take(CloudArguments, options).cloud()
    policy = take(PolicyArguments, options).to_policy()
    check_cloud(policy, cloud)
    decoding = take(DecodingArguments, options)
    if missing := [name for name in _EXTRA if find_spec(name) is None]:
        raise ConfigError(f"serve: needs {', '.join(missing)}: pip install 'foggen[serve]'")
    from foggen_runtime.ask.foggen import Foggen
    from foggen_runtime.serving.server import Server, open_socket
    from foggen_runtime.serving.settings import Settings
    from foggen_runtime.serving.turns import Turns

    name, log_requests = options.pop("bundle"), options.pop("log_requests")
    key = _api_key(options.pop("api_key_file"))
    settings = Settings(
        api_key=key,
        mode=decoding.mode,
        max_new_tokens=decoding.max_new_tokens,
        hold_options=decoding.hold,
        **options,
    )
    level = logging.INFO if log_requests else logging.WARNING
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("foggen_runtime").setLevel(level)
    listener = open_socket(settings)
    opening = bundle.open_options()
    with listener, Foggen.open(name, cloud, opening, policy, Turns()) as foggen:
        Server(foggen, settings, listener).run(announce=click.echo)


def _api_key(file: Path | None) -> str | None:
    """Return the key that clients must send, from the file or the environment.

    Raises:
        ConfigError: The file cannot be read, or holds no key.
    """
    if file is None:
        return os.environ.get(SERVER_KEY_VARIABLE) or None
    try:
        key = file.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        kind = type(error).__name__
        raise ConfigError(f"api_key_file: {file}: cannot be read: {kind}") from None
    if not key:
        raise ConfigError(f"api_key_file: {file}: must hold a key, is empty")
    return key
