"""Judging an exported bundle: `foggen-export --report` and `--max-flip-rate`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_exporter.cli import export_command
from foggen_exporter.judging import Judging, Report, Wishes, check_flip_rate
from foggen_runtime import EngineOptions, Foggen, OpenOptions
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.errors import ConfigError
from foggen_runtime.text.questions import judging_questions
from tests.conftest import TINY, BundleOf
from tests.support.answers import with_flips

CHECKPOINT = TINY / "checkpoint"
LINES = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(LINES[::20]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def disputed(tiny_bundle: BundleOf) -> tuple[str, float]:
    """A question whose level int4 changes, and a tau between the two levels."""
    options = OpenOptions(engine=EngineOptions(threads=1, spinning=False))
    with (
        Foggen.open(tiny_bundle("fp32"), options=options) as fp32,
        Foggen.open(tiny_bundle("int4"), options=options) as int4,
    ):
        for line in LINES:
            question = json.loads(line)["question"]
            one, other = (bundle.ask(question).confidence or 0 for bundle in (fp32, int4))
            if one != other:
                return question, max(one, other)
    raise LookupError("int4 must change the level of some question, changes none")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(export_command, [str(CHECKPOINT), *map(str, arguments)])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_report_compares_with_an_fp32_bundle_that_is_gone(
    tiny_bundle: BundleOf, data: Path, tmp_path: Path
) -> None:
    result = run("--quant", "int4", "-o", "bundle", "--data", data, "--report", "flips.md")
    assert result.exit_code == 0, result.output
    assert names(tmp_path) == ["bundle", "flips.json", "flips.md", "questions.jsonl"]
    report = json.loads((tmp_path / "flips.json").read_text(encoding="utf-8"))
    assert report["reference"]["sha256"] == Manifest.load(tiny_bundle("fp32")).sha256
    assert report["other"]["sha256"] == Manifest.load(tmp_path / "bundle").sha256
    assert report["questions"] == 60
    assert (tmp_path / "flips.md").read_text(encoding="utf-8").startswith("# int4 against fp32\n")
    assert f"{report['flips']['count']} of 60 decisions differ from fp32's" in result.stderr


def test_judging_leaves_no_trace_in_the_bundle(
    tiny_bundle: BundleOf, data: Path, tmp_path: Path
) -> None:
    result = run("--quant", "int8", "-o", "bundle", "--data", data, "--max-flip-rate", "0.2")
    assert result.exit_code == 0, result.output
    manifest = Manifest.load(tmp_path / "bundle")
    assert names(tmp_path / "bundle") == sorted([*manifest.files, "foggen.json"])
    assert Bundle.open(tmp_path / "bundle", verify=True).manifest == manifest
    assert manifest.sha256 == Manifest.load(tiny_bundle("int8")).sha256


def test_a_bundle_that_flips_too_much_is_not_exported(
    disputed: tuple[str, float], tmp_path: Path
) -> None:
    question, tau = disputed
    line = json.dumps({"question": question})
    (tmp_path / "questions.jsonl").write_text("\n".join([line] * 60))
    result = run(
        *("--quant", "int4", "-o", "bundle", "--tau", str(tau), "--data", "questions.jsonl"),
        *("--max-flip-rate", "0.2", "--report", "flips.md"),
    )
    assert result.exit_code == 1
    assert "--max-flip-rate: the upper 95 % bound of the flip rate must be at most 20 %" in (
        result.stderr
    )
    assert "60 of 60 decisions flip (100 %)" in result.stderr
    assert names(tmp_path) == ["flips.json", "flips.md", "questions.jsonl"]


def test_a_refused_bundle_does_not_replace_another(
    disputed: tuple[str, float], tmp_path: Path
) -> None:
    run("--quant", "fp32", "-o", "bundle")
    question, tau = disputed
    (tmp_path / "questions.jsonl").write_text("\n".join([json.dumps({"question": question})] * 60))
    result = run(
        *("--quant", "int4", "-o", "bundle", "--force", "--tau", str(tau)),
        *("--data", "questions.jsonl", "--max-flip-rate", "0.2"),
    )
    assert result.exit_code == 1
    assert Manifest.load(tmp_path / "bundle").quantization.recipe == "fp32"
    assert names(tmp_path) == ["bundle", "questions.jsonl"]


def test_fp32_is_compared_with_itself(data: Path, tmp_path: Path) -> None:
    result = run("--quant", "fp32", "-o", "bundle", "--data", data, "--report", "flips.md")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "flips.json").read_text(encoding="utf-8"))
    assert report["reference"] == report["other"]
    assert report["flips"]["count"] == 0
    assert report["accuracy"]["other"]["count"] > 0


def test_options_reach_the_reference(data: Path, tmp_path: Path) -> None:
    result = run(
        *("--quant", "int4", "-o", "bundle", "--data", data, "--report", "flips.md"),
        *("--tau", "0.75", "--no-prefix-snapshot"),
    )
    assert result.exit_code == 0, result.output
    run("--quant", "fp32", "-o", "reference", "--tau", "0.75", "--no-prefix-snapshot")
    report = json.loads((tmp_path / "flips.json").read_text(encoding="utf-8"))
    assert report["tau"] == 0.75
    assert report["reference"]["sha256"] == Manifest.load(tmp_path / "reference").sha256


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        (Wishes(data=Path("q.jsonl")), "needs --report or --max-flip-rate, both are missing"),
        (Wishes(Path("q.jsonl"), Path("r.txt")), "report: must end in .md, is r.txt"),
        (Wishes(Path("q.jsonl"), Path("no/r.md")), "its directory must exist, no does not"),
        (Wishes(Path("q.jsonl"), Path("b/r.md")), "must be outside the bundle b, is b/r.md"),
        (Wishes(Path("q.jsonl"), max_flip_rate=0.0), "above 0 and at most 1, is 0.0"),
        (Wishes(Path("q.jsonl"), max_flip_rate=1.1), "above 0 and at most 1, is 1.1"),
        (Wishes(Path("nowhere.jsonl"), max_flip_rate=0.1), "nowhere.jsonl: cannot be read"),
        (
            Wishes(Path("q.jsonl"), max_flip_rate=0.02),
            "60 questions are too few to show a flip rate of at most 2 %, even if no decision "
            "flips: at least 149 are needed",
        ),
    ],
)
def test_impossible_wishes_are_refused(wishes: Wishes, message: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("\n".join(LINES[:60]), encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        Judging.of(wishes, Path("b"))
    assert message in str(raised.value)


def test_impossible_wishes_are_refused_before_the_export(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        export_command, ["nowhere", "--quant", "int4", "--max-flip-rate", "0.001"]
    )
    assert result.exit_code == 1
    assert "176 questions are too few to show a flip rate of at most 0.1 %" in result.stderr
    assert names(tmp_path) == []


def test_nothing_is_judged_unasked() -> None:
    assert Judging.of(Wishes(), Path("b")) is None


@pytest.mark.slow
def test_without_questions_the_built_in_ones_judge(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    options = ("--report", "flips.md", "--max-flip-rate", ".2")
    result = run("--quant", "int8-weight", "-o", "bundle", *options)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "flips.json").read_text(encoding="utf-8"))
    assert report["questions"] == len(judging_questions())
    assert [row["domain"] for row in report["domains"]][:2] == ["finance", "science"]
    assert report["other"]["sha256"] == Manifest.load(tiny_bundle("int8-weight")).sha256


def test_enough_questions_may_be_asked(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text("\n".join(LINES[:149]), encoding="utf-8")
    judging = Judging.of(Wishes(Path("q.jsonl"), max_flip_rate=0.02), Path("b"))
    assert judging
    assert len(judging.questions) == 149


def test_a_bound_within_the_limit_passes() -> None:
    comparison = with_flips(14, 1200)
    check_flip_rate(comparison, comparison.flip_rate_upper_bound)


def test_a_rate_above_the_limit_is_told() -> None:
    with pytest.raises(ConfigError) as raised:
        check_flip_rate(with_flips(30, 1200), 0.02)
    assert str(raised.value) == (
        "max_flip_rate: the upper 95 % bound of the flip rate must be at most 2 %, is 3.38 %: "
        "30 of 1200 decisions flip (2.5 %)"
    )


def test_too_few_questions_are_told_with_how_many_would_do() -> None:
    with pytest.raises(ConfigError) as raised:
        check_flip_rate(with_flips(2, 200), 0.02)
    assert str(raised.value) == (
        "max_flip_rate: the upper 95 % bound of the flip rate must be at most 2 %, is 3.11 %: "
        "2 of 200 decisions flip (1 %); the rate is below the limit, but there are too few "
        "questions to be sure of it: about 719 would be enough at this rate"
    )


def test_an_unwritable_report_is_named() -> None:
    report = Report.of(Path("x" * 300 + ".md"), Path("b"), force=False)
    with pytest.raises(ConfigError, match="report: cannot be written: "):
        report.write(with_flips(0, 3))


@pytest.mark.parametrize("there", ["package.md", "package.json"])
def test_a_report_replaces_other_files_by_force_alone(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    arguments = ("--quant", "fp32", "-o", "bundle", "--report", "package.md")
    result = run(*arguments)
    assert result.exit_code == 1
    assert f"report: {there} exists already; --force replaces it" in result.stderr
    assert (tmp_path / there).read_text() == "mine"
    assert names(tmp_path) == [there]
    report = Report.of(Path("package.md"), Path("b"), force=True)
    report.write(with_flips(0, 3))
    assert names(tmp_path) == ["package.json", "package.md"]
    assert (tmp_path / there).read_text() != "mine"


def test_a_report_whose_place_is_taken_meanwhile_is_kept_beside(tmp_path: Path) -> None:
    report = Report.of(Path("flips.md"), Path("b"), force=True)
    (tmp_path / "flips.json").write_text("mine")
    with pytest.raises(
        ConfigError, match=r"report: cannot be put at flips\.md: .* turned up there"
    ):
        report.write(with_flips(0, 3))
    (kept,) = tmp_path.glob("flips.md.finished-*")
    assert names(kept) == ["flips.json", "flips.md"]
    assert names(tmp_path) == ["flips.json", kept.name]
    assert (tmp_path / "flips.json").read_text() == "mine"
