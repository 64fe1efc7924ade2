"""Every exit code that a command's help lists is one that it gives."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from foggen_runtime.cli import foggen
from foggen_runtime.errors import EngineError
from foggen_runtime.model.engine import Engine
from tests.conftest import TINY, BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.runtime.test_interruption import interrupt

DEAD = ("--cloud-url", "http://127.0.0.1:9/v1", "--cloud-model", "big")
RECORDS = "records.jsonl"


def run(*arguments: str) -> int:
    return CliRunner().invoke(foggen, arguments).exit_code


@pytest.fixture
def here(tiny_bundle: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a bundle, one that is none, and files that are right or wrong."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    shutil.copytree(tiny_bundle("int4"), "bundle")
    Path("empty").mkdir()
    lines = (TINY / "heldout.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    Path("data.jsonl").write_text("".join(lines[:12]), encoding="utf-8")
    Path("broken").write_text("{ no file of any kind" * 50, encoding="utf-8")
    Path("policy.toml").write_text("tau = 0.5\n", encoding="utf-8")
    Path("log").mkdir()
    Path("log/yesterday").touch()
    return tmp_path


def unsure() -> str:
    return next(text for text in QUESTIONS if run("ask", "bundle", text) == 5)


def sure() -> str:
    return next(text for text in QUESTIONS if run("ask", "bundle", text) == 0)


def fail(*_: object, **__: object) -> None:
    raise EngineError("onnxruntime: no memory")


# By command and exit code: what makes it so. `patch` replaces a function by its dotted name.
CASES: dict[tuple[str, int], tuple[str, ...]] = {
    ("ask", 0): ("bundle", "SURE"),
    ("ask", 2): ("bundle", "What?", "--tau", "2"),
    ("ask", 3): ("empty", "What?"),
    ("ask", 4): ("bundle", " "),
    ("ask", 5): ("bundle", "UNSURE"),
    ("ask", 6): ("bundle", "UNSURE", *DEAD),
    ("ask", 7): ("bundle", "SURE", "FAIL"),
    ("ask", 8): ("bundle", "UNSURE", *DEAD, "--on-unreachable", "queue"),
    ("ask", 9): ("bundle", "UNSURE", "--on-unreachable", "queue", "--outbox", "broken"),
    ("calibrate", 0): ("bundle", "data.jsonl", "--max-cloud-share", "1"),
    ("calibrate", 2): ("bundle", "data.jsonl", "--max-risk", "0.0001"),
    ("calibrate", 3): ("empty", "data.jsonl", "--max-cloud-share", "1"),
    ("calibrate", 7): ("bundle", "data.jsonl", "--max-cloud-share", "1", "FAIL"),
    ("compare", 0): ("bundle", "bundle", "--limit", "3"),
    ("compare", 2): ("bundle", "bundle", "--data", "broken"),
    ("compare", 3): ("bundle", "empty"),
    ("compare", 7): ("bundle", "bundle", "FAIL"),
    ("completion", 0): ("bash",),
    ("completion", 2): ("tcsh",),
    ("eval", 0): ("bundle", "data.jsonl"),
    ("eval", 2): ("bundle", "broken"),
    ("eval", 3): ("empty", "data.jsonl"),
    ("eval", 6): ("bundle", "unanswered.jsonl", *DEAD),
    ("eval", 7): ("bundle", "data.jsonl", "FAIL"),
    ("fetch", 2): ("ftp://nowhere", "-o", "new"),
    ("fetch", 11): ("http://127.0.0.1:9/", "-o", "new", "--attempts", "1"),
    ("inspect", 0): ("bundle",),
    ("inspect", 2): ("bundle", "--no-such-option"),
    ("inspect", 3): ("empty",),
    ("outbox list", 2): (),
    ("outbox list", 9): ("--db", "broken"),
    ("outbox show", 2): ("none",),
    ("outbox show", 9): ("--db", "broken", "1"),
    ("outbox flush", 2): (),
    ("outbox flush", 9): ("--db", "broken", *DEAD),
    ("outbox purge", 1): ("--accepted",),
    ("outbox purge", 2): (),
    ("outbox purge", 9): ("--db", "broken"),
    ("policy check", 0): ("policy.toml",),
    ("policy check", 2): ("broken",),
    ("prepare", 0): ("bundle",),
    ("prepare", 2): ("bundle", "-o", "broken"),
    ("prepare", 3): ("empty",),
    ("profile run", 2): ("bundle", "--data", "broken"),
    ("profile run", 3): ("empty",),
    ("profile run", 7): ("bundle", "--launcher", "false"),
    ("replay", 0): (RECORDS,),
    ("replay", 2): ("broken",),
    ("serve", 2): ("bundle", "--port", "99999"),
    ("serve", 3): ("empty", "--port", "0"),
    ("serve", 9): ("bundle", "--port", "0", "--on-unreachable", "queue", "--outbox", "broken"),
    ("tune", 2): ("bundle", "--threads", "x"),
    ("tune", 3): ("empty",),
    ("tune", 7): ("bundle", "--launcher", "false"),
}
# Where they are tested.
ELSEWHERE = {
    **{(command, 130): "test_interruption.py" for command in (
        *("calibrate", "compare", "eval", "fetch", "outbox flush", "prepare", "profile run"),
        *("replay", "tune"),
    )},
    ("fetch", 0): "test_download.py",
    ("fetch", 3): "test_download.py",
    ("outbox list", 0): "test_outbox_command.py",
    ("outbox show", 0): "test_outbox_command.py",
    ("outbox flush", 0): "test_outbox_command.py",
    ("outbox flush", 8): "test_outbox_command.py",
    ("outbox purge", 0): "test_outbox_command.py",
    ("profile run", 0): "profiling/test_profile_command.py",
    ("profile compare", 0): "profiling/test_difference.py",
    ("profile compare", 1): "profiling/test_difference.py",
    ("profile compare", 2): "profiling/test_difference.py",
    ("replay", 1): "test_replay_command.py",
    ("serve", 0): "serving/test_serve_command.py",
    ("serve", 130): "serving/test_signals.py",
    ("tune", 0): "profiling/test_tuning.py",
}  # fmt: skip


@pytest.mark.parametrize(("command", "code"), CASES)
def test_it_is_given(here: Path, command: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if command == "serve" and code > 2:
        pytest.importorskip("uvicorn", reason="without the extra, serving is wrong usage")
    questions: dict[str, Callable[[], str]] = {"SURE": sure, "UNSURE": unsure}
    arguments = [questions[word]() if word in questions else word for word in CASES[command, code]]
    if "unanswered.jsonl" in arguments:
        question = {"question": "Which?\nA. x\nB. y", "answer": "A"}
        Path("unanswered.jsonl").write_text(json.dumps(question) + "\n", encoding="utf-8")
    if RECORDS in arguments:
        assert run("eval", "bundle", "data.jsonl", "--records", RECORDS) == 0
    if "FAIL" in arguments:
        arguments.remove("FAIL")
        monkeypatch.setattr(Engine, "forward", fail)
    assert run(*command.split(), *arguments) == code


def test_a_question_is_interrupted(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foggen_runtime.ask.foggen.Foggen.ask", interrupt)
    assert run("ask", "bundle", "What?") == 130


def test_all_that_are_listed_are_tested() -> None:
    context = click.Context(foggen)
    commands: dict[str, click.Command] = {}
    for name in foggen.list_commands(context):
        command = foggen.get_command(context, name)
        assert command
        inner = command.commands if isinstance(command, click.Group) else {"": command}
        commands |= {f"{name} {word}".strip(): found for word, found in inner.items()}
    listed = {
        (name, int(code))
        for name, command in commands.items()
        for code in re.findall(r"^  (\d+) ", command.epilog or "", re.MULTILINE)
    }
    assert listed == {*CASES, *ELSEWHERE, ("ask", 130)}
