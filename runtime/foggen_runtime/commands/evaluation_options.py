"""Options that `eval`, `calibrate` and `replay` share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from foggen_runtime.commands.command_line import Choice
from foggen_runtime.errors import ConfigError

if TYPE_CHECKING:
    from foggen_runtime.evaluation.pictures import Series
    from foggen_runtime.reports.pages import Page

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(path_type=Path, dir_okay=False)

# As `manifest.ConfidenceKind` has them: every TAB would wait for that module.
CONFIDENCE_KINDS = ("verbalized", "expected")
_PRICES = {
    "per_call": "per_call",
    "prompt": "per_million_prompt",
    "completion": "per_million_completion",
}


class PricesType(click.ParamType):  # type: ignore[type-arg]
    """`per_call=…,prompt=…,completion=…`: per call, and per million tokens."""

    name = "prices"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Read the option; without prices, nothing costs anything."""
        if ctx is not None and ctx.resilient_parsing:
            return value  # a TAB needs no prices
        from foggen_runtime.evaluation.routing import Prices

        if isinstance(value, Prices):
            return value
        read: dict[str, float] = {}
        for part in str(value).split(",") if value else ():
            name, _, number = part.partition("=")
            if name.strip() not in _PRICES:
                self.fail(f"must be one of {', '.join(_PRICES)}, is {name!r}", param, ctx)
            try:
                read[_PRICES[name.strip()]] = float(number)
            except ValueError:
                self.fail(f"{name}: must be a number, is {number!r}", param, ctx)
        return Prices(**read)


@dataclass(frozen=True)
class Outputs:
    """Where a report goes besides the terminal."""

    html: Path | None
    md: Path | None
    picture: Path | None

    def check(self) -> None:
        """Refuse files that could not be written once everything is known.

        Raises:
            ConfigError: A directory or matplotlib is missing, or the picture's kind is unknown.
        """
        for name, path in (("html", self.html), ("md", self.md), ("picture", self.picture)):
            if path and not path.parent.is_dir():
                raise ConfigError(f"{name}: its directory must exist, {path.parent} does not")
        if self.picture and self.picture.suffix not in (".svg", ".png"):
            raise ConfigError(f"picture: must end in .svg or .png, is {self.picture}")
        if self.picture or self.html:
            from foggen_runtime.reports.drawing import require_matplotlib

            require_matplotlib()

    def write(self, page: "Page", series: "Sequence[Series]") -> None:
        """Write the files asked for.

        Raises:
            ConfigError: One cannot be written.
        """
        from foggen_runtime.evaluation.html_page import html_page
        from foggen_runtime.evaluation.pictures import picture
        from foggen_runtime.files import write_bytes_atomically, write_text_atomically
        from foggen_runtime.reports.pages import markdown

        try:
            if self.md:
                write_text_atomically(self.md, markdown(page))
            if self.html:
                svg = picture(series, "svg").decode()
                write_text_atomically(self.html, html_page(page, svg))
            if self.picture:
                kind = self.picture.suffix.removeprefix(".")
                write_bytes_atomically(self.picture, picture(series, kind))
        except OSError as error:
            raise ConfigError(f"output: cannot be written: {error}") from error


def output_options(command: Command) -> Command:
    """Add the options of `Outputs`."""
    needs = "Needs the extra foggen[report]."
    for option in (
        click.option("--picture", type=FILE, help=f"Draw FILE.svg or FILE.png. {needs}"),
        click.option("--md", type=FILE, help="Write the tables there, too."),
        click.option("--html", type=FILE, help=f"Write one page with pictures. {needs}"),
    ):
        command = option(command)
    return command


def prices_option(command: Command) -> Command:
    """Add `--prices`."""
    return click.option(
        "--prices",
        type=PricesType(),
        default="",
        metavar="per_call=X,prompt=Y,completion=Z",
        help="The cloud's prices: for a call, for a million tokens.  [default: 0]",
    )(command)


def on_option(command: Command) -> Command:
    """Add `--on`."""
    return click.option(
        "--on",
        type=Choice(CONFIDENCE_KINDS),
        help="Which confidence tau is compared with.  [default: verbalized, or the bundle's]",
    )(command)
