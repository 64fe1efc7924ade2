"""`foggen completion`: tab completion for a shell."""

import click
from click.shell_completion import get_completion_class

from foggen_runtime.commands.command_line import Choice, Command, exit_codes

# The scripts only name these commands: each completes itself.
COMMANDS = ("foggen", "foggen-export", "foggen-package")


@click.command(cls=Command, epilog=exit_codes(0, 2))
@click.argument("shell", type=Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script for tab completion of foggen, foggen-export and foggen-package.

    \b
    Example:
      foggen completion bash >> ~/.bashrc
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"shell: must be one that click can complete, is {shell}")
    root = ctx.find_root().command
    for name in COMMANDS:
        variable = f"_{name.replace('-', '_')}_COMPLETE".upper()
        click.echo(kind(root, {}, name, variable).source())
