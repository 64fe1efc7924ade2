"""`foggen compare`: how far two bundles' decisions agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foggen_runtime.commands.command_line import BundleType, Command, exit_codes, interruptible
from foggen_runtime.commands.terminal import markdown_option, progress, quiet_option, show_page
from foggen_runtime.errors import ConfigError

if TYPE_CHECKING:
    from foggen_runtime.comparison.verdicts import Answers
    from foggen_runtime.evaluation.comparison import Comparison
    from foggen_runtime.model.local_model import OpenOptions
    from foggen_runtime.text.questions import Question


@dataclass(frozen=True)
class Arguments:
    """The command line, as typed."""

    reference: str
    other: str
    data: Path | None
    tau: float | None
    limit: int | None
    threads: int | None
    md: Path | None
    picture: Path | None
    as_json: bool
    as_markdown: bool

    def check_outputs(self) -> None:
        """Refuse files that could not be written once every question is asked.

        Raises:
            ConfigError: A directory or matplotlib is missing, or the picture's kind is unknown.
        """
        for name, path in (("md", self.md), ("picture", self.picture)):
            if path and not path.parent.is_dir():
                raise ConfigError(f"{name}: its directory must exist, {path.parent} does not")
        if self.picture:
            if self.picture.suffix not in (".svg", ".png"):
                raise ConfigError(f"picture: must end in .svg or .png, is {self.picture}")
            from foggen_runtime.reports.drawing import require_matplotlib

            require_matplotlib()


@click.command("compare", cls=Command, epilog=exit_codes(0, 2, 3, 7, 130))
@click.argument("reference", metavar="A", type=BundleType())
@click.argument("other", metavar="B", type=BundleType())
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Questions, JSON Lines: question, and where known domain and answer (a letter).  "
    "[default: a built-in set]",
)
@click.option("--tau", type=float, help="Confidence below this defers.  [default: A's]")
@click.option("--limit", type=click.IntRange(min=1), help="Ask only the first so many questions.")
@click.option("--threads", type=int, help="Worker threads.  [default: the big cores]")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as one JSON object.")
@click.option(
    "--md", type=click.Path(dir_okay=False, path_type=Path), help="Write the page there, too."
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw levels and flips: FILE.svg or FILE.png. Needs the extra foggen[report].",
)
@markdown_option
@quiet_option
def compare_command(**options: Any) -> None:
    """Compare the decisions of bundle B with those of A, the reference.

    Both are directories or hub ids. Each is asked every question in turn, and answers locally
    whatever its confidence; nothing goes to a cloud. Tau is compared with the confidence that each
    bundle was calibrated on.

    \b
    Example:
      foggen compare foggen-fp32 foggen-int4
      foggen compare foggen-fp32 foggen-int4 --data questions.jsonl --picture flips.svg
    """
    from foggen_runtime.evaluation.comparison_page import page, picture
    from foggen_runtime.files import write_bytes_atomically, write_text_atomically
    from foggen_runtime.jsonio import dumps
    from foggen_runtime.reports.pages import markdown

    arguments = Arguments(**options)
    arguments.check_outputs()
    with interruptible("no answer is kept, nothing was written"):
        comparison = _compare(arguments)
    report = page(comparison)
    try:
        if arguments.md:
            write_text_atomically(arguments.md, markdown(report))
        if arguments.picture:
            kind = arguments.picture.suffix.removeprefix(".")
            write_bytes_atomically(arguments.picture, picture(comparison, kind))
    except OSError as error:
        raise ConfigError(f"output: cannot be written: {error}") from error
    if arguments.as_json:
        click.echo(dumps(comparison.to_dict()))
    else:
        show_page(report, as_markdown=arguments.as_markdown)


def _compare(arguments: Arguments) -> "Comparison":
    from foggen_runtime.bundle.hub import locate_bundle
    from foggen_runtime.bundle.manifest import Manifest
    from foggen_runtime.evaluation.comparison import check_comparable, compare
    from foggen_runtime.model.engine import EngineOptions
    from foggen_runtime.model.local_model import OpenOptions
    from foggen_runtime.text.questions import judging_questions, read_questions

    asked = read_questions(arguments.data) if arguments.data else judging_questions()
    questions = asked[: arguments.limit]
    directories = [locate_bundle(name) for name in (arguments.reference, arguments.other)]
    first, second = (Manifest.load(directory) for directory in directories)
    tau = first.routing.tau if arguments.tau is None else arguments.tau
    check_comparable(first.template.levels, second.template.levels, tau)
    options = OpenOptions(EngineOptions(threads=arguments.threads, spinning=False))
    reference, other = (_answers(directory, questions, options) for directory in directories)
    return compare(questions, reference, other, tau)


def _answers(directory: Path, questions: "Sequence[Question]", options: "OpenOptions") -> "Answers":
    """Ask one bundle, and let go of it: two engines alive at once slow each other."""
    from foggen_runtime.ask.foggen import Foggen
    from foggen_runtime.comparison.verdicts import answer_all

    with (
        Foggen.open(directory, options=options) as foggen,
        progress(len(questions), directory.name) as advance,
    ):
        return answer_all(foggen, questions, lambda: advance(1))
