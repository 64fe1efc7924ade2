"""The command `foggen`: what runs on the device."""

from importlib import import_module

import click
from click.shell_completion import CompletionItem

from foggen_runtime.commands.command_line import Group

# The help's headings, and under each its commands with the name of their function in
# `commands/COMMAND.py`. A module is imported only when its command is used, and imports the rest
# only when the command runs, so that help and completion come at once.
_SECTIONS = {
    "Ask": {"ask": "ask", "serve": "serve"},
    "Cloud": {"outbox": "outbox", "policy": "policy"},
    "Bundles": {
        "fetch": "fetch",
        "inspect": "inspect",
        "prepare": "prepare_command",
        "tune": "tune_command",
    },
    "Measure": {
        "eval": "eval_command",
        "calibrate": "calibrate",
        "replay": "replay",
        "compare": "compare_command",
        "profile": "profile",
    },
    "Shell": {"completion": "completion"},
}
_FUNCTIONS = {
    name: function for section in _SECTIONS.values() for name, function in section.items()
}


class _LazyGroup(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_FUNCTIONS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _FUNCTIONS:
            return None
        module = import_module(f"foggen_runtime.commands.{cmd_name}")
        command = getattr(module, _FUNCTIONS[cmd_name])
        if not isinstance(command, click.Command):
            raise TypeError(f"{cmd_name}: must be a command, is {command!r}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands below their headings."""
        width = max(map(len, _FUNCTIONS))
        room = formatter.width - 6 - width
        for heading, names in _SECTIONS.items():
            commands = ((name, self.get_command(ctx, name)) for name in names)
            rows = [
                (name.ljust(width), command.get_short_help_str(room))
                for name, command in commands
                if command
            ]
            with formatter.section(heading):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands without their descriptions, which would mean importing all of them."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name) for name in sorted(_FUNCTIONS) if name.startswith(incomplete)]


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="foggen")
def foggen() -> None:
    """Ask a FogGen bundle: it answers here when it is sure, and asks the cloud otherwise.

    \b
    Example:
      foggen ask foggen-int4 'Is 7 a prime?
      A. yes
      B. no'
    """


def main() -> None:
    """Run the command line."""
    foggen()
