"""Options that `profile` and `tune` share: how the processes they measure in are run."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def rounds_option(default: int, help_text: str) -> Callable[[Command], Command]:
    """Return the option of how many processes there are; each command has its own number."""
    return click.option(
        "--rounds",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        help=help_text,
    )


def asking_options(command: Command) -> Command:
    """Add the options of what each process is asked."""
    warm_up = click.option(
        "--warm-up",
        type=click.IntRange(min=0),
        default=2,
        show_default=True,
        help="Questions before them that do not count.",
    )
    questions = click.option(
        "--questions",
        type=click.IntRange(min=1),
        default=12,
        show_default=True,
        help="Measured questions of each process.",
    )
    return questions(warm_up(command))


launcher_option = click.option(
    "--launcher",
    default="",
    help="Words before the command of each process, e.g. 'taskset -c 4-7'.",
)
