"""What every command of the project has in common.

Here, errors raised on purpose become messages and exit codes, with options named as they are typed,
and Ctrl-C says what is kept. Imports must stay light, as every TAB runs them.
"""

import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from foggen_runtime.errors import (
    BundleError,
    ConfigError,
    DownloadError,
    EngineError,
    FoggenError,
    HandoffError,
    QuestionError,
    StateError,
)
from foggen_runtime.printing import printable_text

Decorated = TypeVar("Decorated", bound=Callable[..., Any])  # by an option
ExitCodes = Mapping[type[FoggenError], int]

EXIT_CODES: ExitCodes = {
    ConfigError: 2,
    BundleError: 3,
    QuestionError: 4,
    HandoffError: 6,
    EngineError: 7,
    StateError: 9,
    DownloadError: 11,
}
EXIT_INTERRUPTED = 130  # what shells return for SIGINT

_HELP_WIDTH = 76  # of 80, as click indents
_MEANINGS = {
    0: "done",
    1: "any other error",
    2: "wrong usage, or a file is not what it should be",
    3: "the bundle is missing, altered or of another version",
    4: "the question cannot be asked: it is empty or broken text",
    6: "the cloud failed",
    7: "the model failed on this device",
    9: "a file that foggen keeps (outbox, budget, log) cannot be used",
    11: "it could not be downloaded",
    EXIT_INTERRUPTED: "interrupted by Ctrl-C",
}
_FIELD = re.compile(r"([\w-]+): ")
# Fields that are named differently from their options.
_ALIASES = {"total_timeout": "cloud_timeout"}


def exit_codes(*usual: int, special: Mapping[int, str] | None = None) -> str:
    """Return the table of exit codes that ends a command's help.

    Args:
        usual: Codes with their usual meaning.
        special: Codes with another meaning, and what it is.
    """
    meanings = {**{code: _MEANINGS[code] for code in usual}, **(special or {})}
    lines = ["\b\nExit codes:"]
    for code in sorted(meanings):
        text = f"  {code:<4} {meanings[code]}"
        lines += textwrap.wrap(text, _HELP_WIDTH, subsequent_indent=" " * 7)
    return "\n".join(lines)


class Command(click.Command):
    """A command whose errors have exit codes, and whose interruption says what is kept."""

    exit_codes: ClassVar[ExitCodes] = EXIT_CODES

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        with _guarded(ctx, self.exit_codes):
            return super().invoke(ctx)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first word names, or suggest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if getattr(error, "possibilities", None):
                raise
            meant = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(error.message + meant, ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; even importing it may be interrupted."""
        with _guarded(ctx, EXIT_CODES):
            return super().invoke(ctx)


class Choice(click.Choice):  # type: ignore[type-arg]
    """A choice of words; for a mistyped one, the word it resembles is suggested."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert the option's value."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            meant = did_you_mean(str(value), self.choices)
            raise click.BadParameter(error.message + meant, ctx, param) from None


class BundleType(click.ParamType):  # type: ignore[type-arg]
    """A bundle's directory or hub id; TAB completes directories."""

    name = "bundle"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leave directories to the shell: it knows about `~` and spaces."""
        return [CompletionItem(incomplete, type="dir")]


FILE = click.Path(path_type=Path, dir_okay=False)


class _Failure(click.ClickException):
    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(printable_text(message))
        self.exit_code = exit_code  # type: ignore[misc]


class Interrupted(click.ClickException):
    """Ctrl-C was pressed; the message says what is kept."""

    exit_code = EXIT_INTERRUPTED

    def show(self, file: Any = None) -> None:
        """Print the message, on a line of its own below `^C`."""
        if sys.stderr.isatty():
            click.echo(err=True)
        click.echo(f"Interrupted: {self.message}", err=True)


@contextmanager
def interruptible(kept: str | Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C in the block, say what is kept of its work.

    Raises:
        Interrupted: Ctrl-C was pressed.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(kept if isinstance(kept, str) else kept()) from None


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Suggest the known word that is most like this one; empty if none is."""
    from difflib import get_close_matches  # only needed for mistakes

    close = get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


@contextmanager
def _guarded(ctx: click.Context, codes: ExitCodes) -> Iterator[None]:
    try:
        yield
    except FoggenError as error:
        raise _failure(error, ctx, codes) from error
    except KeyboardInterrupt:
        raise Interrupted("nothing was changed") from None


def _failure(error: FoggenError, ctx: click.Context, codes: ExitCodes) -> click.ClickException:
    message = _as_typed(str(error), ctx)
    if isinstance(error, HandoffError) and error.status in (401, 403):
        from foggen_runtime.commands.options import key_hint

        message += f"\n{key_hint()}"
    code = next((code for kind, code in codes.items() if isinstance(error, kind)), 1)
    return _Failure(message, code)


def _as_typed(message: str, ctx: click.Context) -> str:
    """If the message begins with a field that is an option, name the option as it was typed."""
    field = _FIELD.match(message)
    if not field:
        return message
    name = field[1].replace("-", "_")
    names = {name, f"cloud_{name}", _ALIASES.get(name)}
    for param in ctx.command.params:
        if not isinstance(param, click.Option):
            continue
        called = {param.name, *(option.lstrip("-").replace("-", "_") for option in param.opts)}
        typed = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if typed and called & names:
            return f"{max(param.opts, key=len)}: {message[field.end() :]}"
    return message
