"""Judging an exported bundle by how many decisions differ from those of fp32."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from foggen_runtime.ask.foggen import Foggen
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.errors import ConfigError
from foggen_runtime.evaluation.answering import Evaluation, evaluate
from foggen_runtime.evaluation.comparison import Comparison, compare
from foggen_runtime.evaluation.comparison_page import page
from foggen_runtime.files import write_text_atomically
from foggen_runtime.jsonio import dumps
from foggen_runtime.model.engine import EngineOptions
from foggen_runtime.model.local_model import LocalModel, OpenOptions
from foggen_runtime.placing import Place, put_all
from foggen_runtime.reports.pages import markdown
from foggen_runtime.statistics.intervals import total_needed, upper_bound
from foggen_runtime.text.questions import Question, judging_questions, read_questions


@dataclass(frozen=True)
class Wishes:
    """What a user asked for.

    Attributes:
        data: The question file; None for the built-in questions.
        report: Where to write the comparison as Markdown; its JSON goes next to it.
        max_flip_rate: What the one-sided 95 % upper bound of the flip rate must not exceed.
        force: Whether to replace an existing report.
    """

    data: Path | None = None
    report: Path | None = None
    max_flip_rate: float | None = None
    force: bool = False


@dataclass(frozen=True)
class Report:
    """Where the comparison goes: as Markdown, and next to it as JSON."""

    text: Place
    document: Place

    @classmethod
    def of(cls, path: Path, target: Path, *, force: bool) -> Self:
        """Look at where a report on the bundle at `target` is to go.

        Raises:
            ConfigError: It cannot be written there, or something is there and `force` is not given.
        """
        if path.suffix != ".md":
            raise ConfigError(f"report: must end in .md, is {path}")
        if target.resolve() in path.resolve().parents:
            raise ConfigError(f"report: must be outside the bundle {target}, is {path}")
        if not path.parent.is_dir():
            raise ConfigError(f"report: its directory must exist, {path.parent} does not")
        files = (path, path.with_suffix(".json"))
        return cls(*(Place.file(file, force=force, option="report") for file in files))

    def write(self, comparison: Comparison) -> None:
        """Write the comparison.

        Raises:
            ConfigError: It cannot be written, or something has turned up there.
        """
        texts = {
            self.text: markdown(page(comparison)),
            self.document: dumps(comparison.to_dict(), indent=2) + "\n",
        }
        try:
            with tempfile.TemporaryDirectory(
                dir=self.text.path.parent, prefix=f".{self.text.path.name}."
            ) as directory:
                work = [(place, Path(directory) / place.path.name) for place in texts]
                for place, path in work:
                    write_text_atomically(path, texts[place])
                put_all(work)
        except OSError as error:
            raise ConfigError(f"report: cannot be written: {error}") from error


@dataclass(frozen=True)
class Judging:
    """Questions to judge a bundle by, and what to do with the outcome."""

    questions: tuple[Question, ...]
    report: Report | None = None
    max_flip_rate: float | None = None

    @classmethod
    def of(cls, wishes: Wishes, target: Path) -> Self | None:
        """Read the questions; None when nothing is to be judged.

        Args:
            wishes: What the user asked for.
            target: Where the bundle goes.

        Raises:
            ConfigError: The wishes contradict each other, the report cannot be written, or there
                are too few questions to ever keep the limit.
        """
        if wishes.report is None and wishes.max_flip_rate is None:
            if wishes.data:
                raise ConfigError("data: needs --report or --max-flip-rate, both are missing")
            return None
        report = None
        if wishes.report:
            report = Report.of(wishes.report, target, force=wishes.force)
        data = wishes.data
        questions = read_questions(data).questions if data else judging_questions()
        if wishes.max_flip_rate is not None:
            _check_limit(wishes.max_flip_rate, len(questions))
        return cls(questions, report, wishes.max_flip_rate)

    def judge(self, reference: Path, bundle: Path, on_answer: Callable[[], object]) -> Comparison:
        """Ask both bundles every question, write the report, and enforce the limit.

        Neither directory is written to.

        Args:
            reference: The bundle in fp32.
            bundle: The one to judge, at its own tau.
            on_answer: Called after each question to each bundle.

        Raises:
            ConfigError: Too many decisions flip, or the report cannot be written.
        """
        asked, judged = (self._evaluate(each, on_answer) for each in (reference, bundle))
        comparison = compare(asked, judged, Manifest.load(bundle).routing.tau)
        if self.report:
            self.report.write(comparison)
        if self.max_flip_rate is not None:
            check_flip_rate(comparison, self.max_flip_rate)
        return comparison

    def _evaluate(self, directory: Path, on_answer: Callable[[], object]) -> Evaluation:
        """Ask one bundle, which was hashed while it was written, then close it."""
        bundle = Bundle(directory, Manifest.load(directory))
        model = LocalModel(bundle, OpenOptions(EngineOptions(spinning=False)))
        with Foggen(model) as foggen:
            return evaluate(foggen, self.questions, on_answer)


def check_flip_rate(comparison: Comparison, limit: float) -> None:
    """Check the upper bound of the flip rate against a limit.

    Raises:
        ConfigError: It is higher.
    """
    bound, flips = comparison.flip_rate_upper_bound, comparison.flips
    if bound <= limit:
        return
    message = (
        f"max_flip_rate: the upper 95 % bound of the flip rate must be at most {_percent(limit)}, "
        f"is {_percent(bound)}: {flips.count} of {flips.total} decisions flip "
        f"({_percent(flips.rate)})"
    )
    if flips.rate < limit:
        needed = total_needed(flips.count, flips.total, limit)
        message += (
            "; the rate is below the limit, but there are too few questions to be sure of it: "
            f"about {needed} would be enough at this rate"
        )
    raise ConfigError(message)


def _check_limit(limit: float, questions: int) -> None:
    if not 0 < limit <= 1:
        raise ConfigError(f"max_flip_rate: must be above 0 and at most 1, is {limit}")
    if upper_bound(0, questions) > limit:
        raise ConfigError(
            f"data: {questions} questions are too few to show a flip rate of at most "
            f"{_percent(limit)}, even if no decision flips: at least "
            f"{total_needed(0, questions, limit)} are needed"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
