"""What a command prints besides its result.

Results go to standard output. Notes and progress go to standard error, unless `--quiet` is given;
warnings always go there.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from foggen_runtime.commands.command_line import Decorated
from foggen_runtime.printing import printable_name, printable_text

_QUIET = "foggen.quiet"


def quiet_option(command: Decorated) -> Decorated:
    """Add `--quiet`."""
    return click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=lambda ctx, _, value: ctx.meta.__setitem__(_QUIET, value),
        help="Print only the result, warnings and errors.",
    )(command)


def is_quiet() -> bool:
    """Whether `--quiet` was given."""
    ctx = click.get_current_context(silent=True)
    return bool(ctx and ctx.meta.get(_QUIET))


def note(sentence: str) -> None:
    """Say something that is not the result."""
    if not is_quiet():
        click.echo(printable_text(sentence), err=True)


def warn(sentence: str) -> None:
    """Warn of something."""
    click.echo(f"Warning: {printable_text(sentence)}", err=True)


@contextmanager
def progress(length: int, label: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar; yield what to call with a number of finished steps."""
    if is_quiet() or not length:
        yield lambda _: None
        return
    with click.progressbar(length=length, label=printable_name(label), file=sys.stderr) as bar:
        yield bar.update


def terminal_width() -> int | None:
    """Return how many columns the terminal has; None if there is no terminal or no limit."""
    return shutil.get_terminal_size((0, 0)).columns or None
