"""`foggen policy`: check a policy before it is used."""

from pathlib import Path

import click

from foggen_runtime.commands.command_line import Group, exit_codes


@click.group(cls=Group)
def policy() -> None:
    """Check a policy file.

    \b
    Example:
      foggen policy check policy.toml
    """


@policy.command("check", epilog=exit_codes(0, 2))
@click.argument("file", type=click.Path(path_type=Path))
def check_command(file: Path) -> None:
    """Say whether FILE is a valid policy in TOML, or what is wrong with it.

    \b
    Example:
      foggen policy check policy.toml
    """
    from foggen_runtime.handoff.policy import Policy

    Policy.load(file)
    click.echo(f"{file}: a policy")
