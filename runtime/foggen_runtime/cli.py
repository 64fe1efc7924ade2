"""The command `foggen`: what runs on the device."""

from importlib import import_module

import click
from click.shell_completion import CompletionItem

from foggen_runtime.commands.command_line import Group

# A module is imported when its command is asked for. It imports in turn what its command needs when
# it runs, so that help and completion come at once.
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


class _LazyGroup(Group):
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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands by their names alone: to describe them, all would be imported."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name) for name in sorted(_COMMANDS) if name.startswith(incomplete)]


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="foggen")
def foggen() -> None:
    """Ask a FogGen bundle: it answers here when it is sure, and asks the cloud when not.

    \b
    Example:
      foggen ask foggen-int4 'Is 7 a prime?
      A. yes
      B. no'
    """


def main() -> None:
    """Run the command line."""
    foggen()
