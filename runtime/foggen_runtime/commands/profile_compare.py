"""`foggen profile compare`: is B slower than A?"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from foggen_runtime.commands.command_line import Command, exit_codes
from foggen_runtime.commands.terminal import markdown_option, show_page
from foggen_runtime.errors import ConfigError

if TYPE_CHECKING:
    from foggen_runtime.profiling.difference import Difference

EXIT_SLOWER = 1

_EPILOG = exit_codes(
    2,
    special={
        0: "not slower than allowed, or nothing shows that it is",
        EXIT_SLOWER: "slower than --max-slowdown, with confidence",
    },
)


@click.command("compare", cls=Command, epilog=_EPILOG)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--max-slowdown",
    type=click.FloatRange(min=0, min_open=True),
    help="Exit with 1 when B is more times slower than this, with 95 % confidence.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    default=("decision",),
    show_default=True,
    help="What --max-slowdown judges, e.g. letter, pp128, peak_rss; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all figures as one JSON object.")
@markdown_option
@click.pass_context
def compare_command(
    ctx: click.Context,
    a: Path,
    b: Path,
    max_slowdown: float | None,
    metrics: tuple[str, ...],
    *,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Compare profile B with profile A, the reference.

    A metric is called slower or faster when its 95 % interval lies on one side of 1.

    \b
    Example:
      foggen profile compare before.json after.json --max-slowdown 1.1
    """
    from foggen_runtime.jsonio import dumps
    from foggen_runtime.profiling.difference import difference, page
    from foggen_runtime.profiling.schema import read_profile

    found = difference(read_profile(a), read_profile(b))
    if as_json:
        click.echo(dumps(found))
    else:
        show_page(page(found), as_markdown=as_markdown)
    if max_slowdown is not None:
        exceeded = [metric for metric in metrics if _exceeds(found, metric, max_slowdown)]
        for metric in exceeded:
            click.echo(f"{metric}: slower than {max_slowdown:g} times A", err=True)
        ctx.exit(EXIT_SLOWER if exceeded else 0)


def _exceeds(found: "Difference", metric: str, limit: float) -> bool:
    """Whether even the interval's lower end is above the limit.

    Raises:
        ConfigError: The profiles do not both have the metric, from two processes or more.
    """
    change = found.change(metric)
    if change is None:
        known = ", ".join(change.metric for change in found.changes)
        raise ConfigError(f"metric: must be in both profiles, which have {known}; is {metric!r}")
    if change.low is None:
        raise ConfigError(
            f"metric: {metric} must come from at least 2 processes on each side to be judged"
        )
    return change.low > limit
