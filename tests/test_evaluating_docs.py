"""The page on evaluating shows what works, names every field and takes its table from results."""

import re
import shlex
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime.bundle.manifest import CalibrationInfo
from foggen_runtime.cli import foggen
from foggen_runtime.evaluation.grading import cloud_is_right, is_right
from foggen_runtime.evaluation.records import Header, Record
from foggen_runtime.evaluation.summary import Summary
from foggen_runtime.text.questions import Question, read_questions
from tests.conftest import TINY, BundleOf

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "evaluating.md").read_text(encoding="utf-8")
LINES = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:100]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[list[str]]:
    return [
        shlex.split(f"foggen {command}")[1:]
        for block in blocks("sh")
        for command in re.split(r"^foggen ", block, flags=re.MULTILINE)[1:]
    ]


def run(words: list[str]) -> Result:
    return CliRunner().invoke(foggen, words)


@pytest.fixture
def here(tiny_bundle: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what the page's commands name."""
    monkeypatch.chdir(tmp_path)
    for quant in ("int4", "fp32"):
        shutil.copytree(tiny_bundle(quant), tmp_path / f"foggen-{quant}")
    (tmp_path / "questions.jsonl").write_text("\n".join(LINES), encoding="utf-8")
    (tmp_path / "other-cloud.jsonl").write_text("\n".join(LINES), encoding="utf-8")
    assert run(["eval", "foggen-fp32", "questions.jsonl", "--records", "fp32.jsonl"]).exit_code == 0
    return tmp_path


def test_every_command_runs_in_the_order_of_the_page(here: Path) -> None:
    shown = commands()
    assert [words[0] for words in shown] == [
        *("eval", "calibrate", "ask", "calibrate", "replay", "replay", "replay", "replay")
    ]
    refused = 3
    for number, words in enumerate(shown):
        if words[0] == "ask":
            words = [*words, "--decision-log", "decisions.jsonl"]
        result = run(words)
        assert result.exit_code == (2 if number == refused else 0), (words, result.output)
        if number == refused:
            assert re.search(r"about \d+ kept answers|no amount of such data", result.stderr)
    assert (here / "int4.md").is_file()


def test_the_data_shown_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(blocks("jsonl")[0], encoding="utf-8")
    first, second = read_questions(path, labelled=True).questions
    assert (cloud_is_right(first), cloud_is_right(second)) == (True, True)
    assert is_right(second, "beatles", None)


@pytest.mark.prose
@pytest.mark.parametrize("described", [Question, Header, Record, Summary, CalibrationInfo])
def test_every_field_is_named(described: type) -> None:
    elsewhere = {"questions", "tau", "confidence", "schema_version"}
    for field in fields(described):
        assert f"`{field.name}`" in PAGE or field.name in elsewhere, field.name


@pytest.mark.prose
def test_the_table_is_that_of_the_results() -> None:
    text = (ROOT / "benchmarks" / "results" / "evaluation.md").read_text(encoding="utf-8")
    assert text.strip() in PAGE


@pytest.mark.prose
def test_int4_calibrated_routes_as_fp32_does() -> None:
    """Within a point on fresh questions, as the committed result says."""
    text = (ROOT / "benchmarks" / "results" / "evaluation.md").read_text(encoding="utf-8")
    (points,) = re.findall(r"^\| int4, calibrated .*?% \| ([+-][0-9.]+) \[", text, re.MULTILINE)
    assert abs(float(points)) <= 1.0
