"""`foggen completion`: tab completion for a shell."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes `foggen` in SHELL.

    \b
    Example:
      foggen completion bash >> ~/.bashrc
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"shell: click completes no {shell}")
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "foggen", "_FOGGEN_COMPLETE").source())
