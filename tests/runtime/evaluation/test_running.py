"""Records are written one by one, and an interrupted run is continued."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from foggen_runtime import ConfigError
from foggen_runtime.cloud.completions import CloudAnswer
from foggen_runtime.evaluation.records import Record, RecordWriter
from foggen_runtime.evaluation.running import record_all, remaining
from foggen_runtime.result import BundleRef, Result
from foggen_runtime.text.questions import Question
from tests.support.recorded import HEADER

QUESTIONS = tuple(
    Question(str(i), f"Which?\nA) {i}\nB) {i + 1}", "B", cloud_correct=[True, None][i % 2])
    for i in range(6)
)


class Echo:
    """Answers every question with B."""

    def records(self, questions: Sequence[Question]) -> Iterator[Record]:
        blank = Result("B", "local", "confident", 0.5, "default", BundleRef("tiny", "0" * 64))
        for question in questions:
            yield Record.of(question, blank)


@dataclass
class Sure:
    """A cloud that always says A."""

    asked: list[str] = field(default_factory=list)

    def complete(self, question: str) -> CloudAnswer:
        self.asked.append(question)
        return CloudAnswer("The answer is A.", "stop", None, None)


def run(path: Path, stop_after: int | None = None, cloud: Sure | None = None) -> None:
    written = 0

    def on_record() -> None:
        nonlocal written
        written += 1
        if written == stop_after:
            raise KeyboardInterrupt

    with RecordWriter(path, HEADER) as writer:
        record_all(remaining(QUESTIONS, writer), Echo(), writer, cloud, on_record)


def test_interrupted_at_any_record_and_resumed_the_file_is_the_same(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    for stop in range(1, len(QUESTIONS) + 1):
        path = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            run(path, stop)
        assert len(path.read_text(encoding="utf-8").splitlines()) == stop + 1
        run(path)
        assert path.read_bytes() == (tmp_path / "whole").read_bytes()


def test_the_cloud_is_asked_where_the_data_knows_nothing_of_it(tmp_path: Path) -> None:
    cloud = Sure()
    run(tmp_path / "r", cloud=cloud)
    assert cloud.asked == [question.question for question in QUESTIONS[1::2]]
    text = (tmp_path / "r").read_text(encoding="utf-8")
    assert text.count('"cloud_answer": "The answer is A.", "cloud_correct": false') == 3
    assert text.count('"cloud_correct": true') == 3


def test_records_of_other_questions_are_refused(tmp_path: Path) -> None:
    run(tmp_path / "r", cloud=None)
    with (
        RecordWriter(tmp_path / "r", HEADER) as writer,
        pytest.raises(ConfigError, match="must begin with the data's questions"),
    ):
        remaining(QUESTIONS[1:], writer)
