"""`foggen profile`, run as its user runs it."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.cli import foggen
from foggen_runtime.profiling.page import NOT_AVAILABLE
from foggen_runtime.profiling.page import page as page_of
from foggen_runtime.profiling.question_set import built_in_questions
from foggen_runtime.profiling.runner import Plan, profile_bundle
from foggen_runtime.profiling.schema import Settings, parse_profile
from foggen_runtime.reports.pages import markdown
from tests.conftest import BundleOf

QUICK = (
    *("--rounds", "2", "--questions", "3", "--warm-up", "1", "--cool-down", "0"),
    *("--repetitions", "1", "--pp", "16", "--tg", "4", "--threads", "1", "--no-spinning"),
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(foggen, ["profile", *map(str, arguments)])


class Page(HTMLParser):
    """Collects what a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_one_run_gives_json_tables_and_a_page(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    files = {name: tmp_path / f"profile.{name}" for name in ("json", "html", "md")}
    outputs = ("--output", files["json"], "--html", files["html"], "--md", files["md"])
    result = run(tiny_bundle("int4"), *QUICK, *outputs, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert json.loads(files["json"].read_text(encoding="utf-8")) == document
    profile = parse_profile(document, "profile")
    assert profile.bundle.sha256 == Bundle.open(tiny_bundle("int4")).manifest.sha256
    assert len(profile.rounds) == 2
    assert all(len(measured.questions) == 3 for measured in profile.rounds)
    assert set(profile.summary.tokens_per_second) == {"pp16", "tg4"}
    assert set(profile.operators) == {"decision", "token"}
    assert profile.settings.threads == 1
    assert files["md"].read_text(encoding="utf-8") == markdown(page_of(profile))
    html = files["html"].read_text(encoding="utf-8")
    page = Page(html)
    assert page.open == []
    assert page.links == []
    assert page.tags.count("svg") == 5
    assert "prefers-color-scheme: dark" in html
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", html)


def test_the_tables_go_to_standard_output_and_progress_does_not(tiny_bundle: BundleOf) -> None:
    executable = Path(sys.executable).parent / "foggen"
    command: list[str | Path] = [executable, "profile", tiny_bundle("int4"), *QUICK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stdout.startswith("# "), "Markdown is printed when it is asked for"
    for heading in ("Questions", "By decision", "Process", "Throughput", "Memory", "Conditions"):
        assert f"\n{heading}" in done.stdout
    assert tiny_bundle("int4").name in done.stderr


def test_a_profile_fits_its_schema(tiny_bundle: BundleOf) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    path = Path(__file__).parents[3] / "docs" / "profile.schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    document = json.loads(run(tiny_bundle("int4"), *QUICK, "--json").stdout)
    jsonschema.validate(document, schema)
    document["rounds"][0]["questions"][0]["total_ms"] = "long"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_a_machine_that_hides_everything_is_reported_as_such(
    tiny_bundle: BundleOf, tmp_path: Path
) -> None:
    settings = Settings(rounds=1, questions=1, warm_up=0, threads=1, spinning=False, repetitions=1)
    questions = built_in_questions()
    profile = profile_bundle(
        Plan(Bundle.open(tiny_bundle("int4")), settings, questions, root=tmp_path)
    )
    rows = {
        cells[0]: cells[1:]
        for line in markdown(page_of(profile)).splitlines()
        if (cells := [cell.strip() for cell in line.strip("|").split("|")])
    }
    hidden = ("frequency, MHz", "governor", "temperature, °C", "throttling", "power, W", "battery")
    for name in (*hidden, "load average"):
        assert rows[name] == [NOT_AVAILABLE] * 2, name
    for name in ("peak RSS", "steady RSS", "steady, anonymous", "board", "memory", "instructions"):
        assert rows[name] == [NOT_AVAILABLE], name
    assert profile.summary.peak_rss_bytes is None


def test_padded_prompts_have_the_length_asked_for(tiny_bundle: BundleOf) -> None:
    document = json.loads(
        run(tiny_bundle("int4"), *QUICK, "--prompt-tokens", "200", "--json").stdout
    )
    counts = [
        sample["prompt_tokens"] for each in document["rounds"] for sample in each["questions"]
    ]
    assert set(counts) == {200}
    assert document["settings"]["question_source"] == "tokens"


def test_questions_from_a_file_are_asked(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    data = tmp_path / "questions.jsonl"
    data.write_text('{"question": "Pick the animal.\\nA) camel\\nB) flute"}', encoding="utf-8")
    options = ("--data", data, "--route", "local_only", "--json")
    document = json.loads(run(tiny_bundle("int4"), *QUICK, *options).stdout)
    samples = [sample for each in document["rounds"] for sample in each["questions"]]
    assert len({sample["prompt_tokens"] for sample in samples}) == 1
    assert {sample["outcome"] for sample in samples} == {"local"}
    assert document["settings"]["question_source"] == "file"


def test_a_launcher_starts_each_process(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = tmp_path / "launcher"
    script.write_text(f'#!/bin/sh\necho started >> {log}\nexec "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    result = run(tiny_bundle("int4"), *QUICK, "--launcher", f"{script}", "--json")
    assert result.exit_code == 0, result.output
    assert log.read_text(encoding="utf-8").split() == ["started"] * 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--output", "no/p.json"), 2, "output: its directory must exist, no does not"),
        (
            ("--cloud-url", "http://127.0.0.1:1/v1"),
            2,
            "--cloud-url and --cloud-model must be given together",
        ),
        (("--threads", "0"), 2, "--threads: must be at least 1, is 0"),
        (("--tau", "2"), 2, "--tau: must be within [0, 1], is 2.0"),
        (("--max-new-tokens", "0"), 2, "--max-new-tokens: must be at least 1, is 0"),
        (("--pp", "5000"), 7, "pp5000: must fit the bundle's context of 2048 tokens"),
        (("--launcher", "/no/such/program"), 7, "cannot start /no/such/program"),
        (("--launcher", "false"), 7, "the measuring process failed: exit status 1"),
        (("--launcher", "true"), 7, "the measuring process printed no report"),
        (("--data", "nowhere.jsonl"), 2, "nowhere.jsonl: cannot be read"),
    ],
)
def test_failures_are_named(
    tiny_bundle: BundleOf, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run(tiny_bundle("int4"), *QUICK, *arguments)
    assert result.exit_code == code
    assert message in result.stderr


def test_a_missing_bundle_has_its_exit_code() -> None:
    assert run("nowhere").exit_code == 3


def test_the_key_of_the_cloud_is_not_in_the_profile(
    tiny_bundle: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOGGEN_CLOUD_API_KEY", "secret-key")
    cloud = ("--cloud-url", "http://127.0.0.1:9/v1", "--cloud-model", "big", "--json")
    result = run(tiny_bundle("int4"), *QUICK, *cloud)
    assert "secret-key" not in result.output
    assert json.loads(result.stdout)["settings"]["cloud"] is True


def test_processes_find_foggen_where_this_one_does(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    """As with a board's launcher: isolated, and the path set by hand."""
    script = f"import sys; sys.path[:] = {sys.path!r}; from foggen_runtime.cli import main; main()"
    arguments = ["profile", str(tiny_bundle("int4")), *QUICK, "--json"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, *arguments],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["rounds"]) == 2
