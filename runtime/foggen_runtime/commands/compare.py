"""`foggen compare`: how far two bundles' decisions agree."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from foggen_runtime.comparison.counting import Comparison, check_comparable, compare
from foggen_runtime.comparison.page import markdown, picture
from foggen_runtime.comparison.verdicts import Answers, answer_all
from foggen_runtime.drawing import require_matplotlib
from foggen_runtime.engine import EngineOptions
from foggen_runtime.errors import ConfigError
from foggen_runtime.files import write_text_atomically
from foggen_runtime.foggen import Foggen
from foggen_runtime.hub import locate_bundle
from foggen_runtime.jsonio import dumps
from foggen_runtime.local_model import OpenOptions
from foggen_runtime.manifest import Manifest
from foggen_runtime.printing import printable_text
from foggen_runtime.questions import Question, judging_questions, read_questions


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
            require_matplotlib()


@click.command("compare")
@click.argument("reference", metavar="A")
@click.argument("other", metavar="B")
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
    arguments = Arguments(**options)
    arguments.check_outputs()
    comparison = _compare(arguments)
    page = markdown(comparison)
    try:
        if arguments.md:
            write_text_atomically(arguments.md, page)
        if arguments.picture:
            kind = arguments.picture.suffix.removeprefix(".")
            arguments.picture.write_bytes(picture(comparison, kind))
    except OSError as error:
        raise ConfigError(f"output: cannot be written: {error}") from error
    shown = dumps(comparison.to_dict()) if arguments.as_json else printable_text(page)
    click.echo(shown, nl=arguments.as_json)


def _compare(arguments: Arguments) -> Comparison:
    asked = read_questions(arguments.data) if arguments.data else judging_questions()
    questions = asked[: arguments.limit]
    directories = [locate_bundle(name) for name in (arguments.reference, arguments.other)]
    first, second = (Manifest.load(directory) for directory in directories)
    tau = first.routing.tau if arguments.tau is None else arguments.tau
    check_comparable(first.template.levels, second.template.levels, tau)
    options = OpenOptions(EngineOptions(threads=arguments.threads, spinning=False))
    reference, other = (_answers(directory, questions, options) for directory in directories)
    return compare(questions, reference, other, tau)


def _answers(directory: Path, questions: Sequence[Question], options: OpenOptions) -> Answers:
    """Ask one bundle, and let go of it: two engines alive at once slow each other."""
    with (
        Foggen.open(directory, options=options) as foggen,
        click.progressbar(length=len(questions), label=directory.name, file=sys.stderr) as bar,
    ):
        return answer_all(foggen, questions, lambda: bar.update(1))
