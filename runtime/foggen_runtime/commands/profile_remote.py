"""`foggen profile --host` and `--adb`: the command line's way to another device."""

from typing import Any

import click
from click.core import ParameterSource

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.errors import ConfigError
from foggen_runtime.profiling.remote import Adb, Connection, RemoteFoggen, Ssh, profile_remotely
from foggen_runtime.profiling.schema import Profile

_LOCAL_OPTIONS = frozenset(
    [
        *("bundle", "data", "as_json", "as_markdown", "quiet", "output", "html", "md"),
        *("host", "ssh_config", "adb", "remote_dir", "remote_command", "wheel"),
    ]
)


def connection_to(options: dict[str, Any]) -> Connection | None:
    """Return the way to the device that --host or --adb names, if one does.

    Raises:
        ConfigError: Both do, or it is to ask a file's questions.
    """
    host, serial, directory = (options[name] for name in ("host", "adb", "remote_dir"))
    if host and serial:
        raise ConfigError(f"host: only one of --host and --adb, are {host} and {serial}")
    if (host or serial) and options["data"]:
        raise ConfigError("data: --host and --adb ask the built-in questions")
    place = {"directory": directory} if directory else {}
    if host:
        return Ssh(host, config=options["ssh_config"], **place)
    return Adb(serial, **place) if serial else None


def measure_there(ctx: click.Context, connection: Connection, bundle: Bundle) -> Profile:
    """Profile there as the command line says.

    Raises:
        DeviceError: The device cannot be reached, or foggen fails there.
    """
    wheel = ctx.params["wheel"]
    command = ctx.params["remote_command"] or ("python3" if wheel else "foggen")
    return profile_remotely(connection, bundle, RemoteFoggen(command, wheel), _typed(ctx))


def _typed(ctx: click.Context) -> list[str]:
    """Return the options that were typed and hold on the other device, too."""
    words: list[str] = []
    for parameter in ctx.command.params:
        name = parameter.name or ""
        typed = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if not typed or name in _LOCAL_OPTIONS:
            continue
        value = ctx.params[name]
        if isinstance(value, bool):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            words += [parameter.opts[0], str(value)]
    return words
