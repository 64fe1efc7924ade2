"""A command's result: printed as a page, as Markdown or as JSON, and written to files."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from foggen_runtime.commands.command_line import FILE, Decorated
from foggen_runtime.commands.terminal import terminal_width
from foggen_runtime.errors import ConfigError
from foggen_runtime.printing import printable_text

if TYPE_CHECKING:
    from foggen_runtime.reports.pages import Page


def json_option(what: str) -> Callable[[Decorated], Decorated]:
    """Return the option `--json`; its help says what is printed."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what}.")


def markdown_option(command: Decorated) -> Decorated:
    """Add `--markdown`."""
    return click.option(
        "--markdown", "as_markdown", is_flag=True, help="Print the tables in Markdown."
    )(command)


def md_option(command: Decorated) -> Decorated:
    """Add `--md`."""
    return click.option("--md", type=FILE, help="Write the tables there as Markdown.")(command)


def picture_option(command: Decorated) -> Decorated:
    """Add `--picture`."""
    return click.option(
        "--picture",
        type=FILE,
        help="Draw FILE.svg or FILE.png. Needs the extra foggen[report].",
    )(command)


def show_page(page: "Page", *, as_markdown: bool) -> None:
    """Print a page: Markdown if asked for, otherwise text that fits the terminal."""
    from foggen_runtime.reports.pages import markdown, plain

    text = markdown(page) if as_markdown else plain(page, terminal_width())
    click.echo(printable_text(text), nl=False)


def check_files(files: Mapping[str, Path | None]) -> None:
    """Refuse files now that could not be written at the end.

    Args:
        files: By option; None if it was not given.

    Raises:
        ConfigError: A directory is missing.
    """
    for name, path in files.items():
        if path and not path.parent.is_dir():
            raise ConfigError(f"{name}: its directory must exist, {path.parent} does not")


def picture_kind(path: Path | None) -> str:
    """Return the kind of picture that goes to a file, `svg` or `png`; empty for no file.

    Raises:
        ConfigError: The kind is another, or matplotlib is missing.
    """
    if path is None:
        return ""
    if path.suffix not in (".svg", ".png"):
        raise ConfigError(f"picture: must end in .svg or .png, is {path}")
    from foggen_runtime.reports.drawing import require_matplotlib

    require_matplotlib()
    return path.suffix.removeprefix(".")


def write_files(contents: Iterable[tuple[Path | None, Callable[[], str | bytes]]]) -> None:
    """Write what was asked for.

    Args:
        contents: Each file, with a function that makes its content; None if it was not given.

    Raises:
        ConfigError: One cannot be written.
    """
    from foggen_runtime.files import write_bytes_atomically

    try:
        for path, content in contents:
            if path:
                made = content()
                write_bytes_atomically(path, made.encode() if isinstance(made, str) else made)
    except OSError as error:
        raise ConfigError(f"output: cannot be written: {error}") from error
