"""The command `foggen`: what runs on the device.

This module alone turns this project's errors into messages and exit codes.
"""

from importlib import import_module
from typing import Any

import click

from foggen_runtime.errors import (
    BundleError,
    ConfigError,
    DeviceError,
    DownloadError,
    EngineError,
    FoggenError,
    HandoffError,
    QuestionError,
    StateError,
)
from foggen_runtime.printing import printable_text

EXIT_CODES = {
    ConfigError: 2,
    BundleError: 3,
    QuestionError: 4,
    HandoffError: 6,
    EngineError: 7,
    StateError: 9,
    DeviceError: 10,
    DownloadError: 11,
}

# Modules are imported when their command runs, so that `foggen --help` starts at once.
_COMMANDS = {
    "ask": "foggen_runtime.commands.ask:ask",
    "calibrate": "foggen_runtime.commands.calibrate:calibrate",
    "compare": "foggen_runtime.commands.compare:compare_command",
    "completion": "foggen_runtime.commands.completion:completion",
    "eval": "foggen_runtime.commands.eval:eval_command",
    "fetch": "foggen_runtime.commands.fetch:fetch",
    "inspect": "foggen_runtime.commands.inspect:inspect",
    "outbox": "foggen_runtime.commands.outbox:outbox",
    "policy": "foggen_runtime.commands.policy:policy",
    "prepare": "foggen_runtime.commands.prepare:prepare_command",
    "profile": "foggen_runtime.commands.profile:profile",
    "replay": "foggen_runtime.commands.replay:replay",
    "serve": "foggen_runtime.commands.serve:serve",
    "tune": "foggen_runtime.commands.tune:tune_command",
}


class _Failure(click.ClickException):
    def __init__(self, error: FoggenError) -> None:
        super().__init__(printable_text(str(error)))
        self.exit_code = EXIT_CODES.get(type(error), 1)  # type: ignore[misc]


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(":")
        command = getattr(import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{_COMMANDS[cmd_name]}: must be a command, is {command!r}")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FoggenError as error:
            raise _Failure(error) from error


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="foggen")
def foggen() -> None:
    """Ask a FogGen bundle: it answers here when it is sure, and asks the cloud when not.

    \b
    Example:
      foggen ask foggen-int4 'Is 7 a prime? A) yes B) no'
    """


def main() -> None:
    """Run the command line."""
    foggen()
