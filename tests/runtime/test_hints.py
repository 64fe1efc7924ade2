"""What `foggen` advises works as it is printed."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime.bundle.manifest import DEVICE_PROFILE_FILE
from foggen_runtime.cli import foggen
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.cloud_server import CloudServer, Reply

DEAD = ("--cloud-url", "http://127.0.0.1:9/v1", "--cloud-model", "big")
KEY = "FOGGEN_CLOUD_API_KEY"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(foggen, [str(argument) for argument in arguments])


def run_hint(hint: str) -> Result:
    first, *words = shlex.split(hint)
    assert first == "foggen"
    return run(*words)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv(KEY, raising=False)


@pytest.fixture(scope="module")
def bundle(tiny_bundle: BundleOf) -> Path:
    return tiny_bundle("int4")


@pytest.fixture(scope="module")
def unsure(bundle: Path) -> str:
    return next(text for text in QUESTIONS if run("ask", bundle, text).exit_code == 5)


def test_a_deferred_question_is_answered_as_advised(bundle: Path, unsure: str) -> None:
    asked = run("ask", bundle, unsure)
    cloud, here = (line.partition(" add ")[2] for line in asked.stderr.splitlines()[1:])
    assert run("ask", bundle, unsure, *here.split()).exit_code == 0
    with CloudServer(lambda _: "B") as server:
        options = cloud.replace("URL", server.url).replace("NAME", "big").split()
        assert run("ask", bundle, unsure, *options).stdout == "B\n"


def test_nobody_is_advised_what_they_have_done(bundle: Path, unsure: str) -> None:
    for arguments in (("--route", "local_only", "--decoding", "greedy"), DEAD):
        for text in QUESTIONS[:20]:
            said = run("ask", bundle, text, *arguments).stderr
            assert "--route local_only" not in said
            assert "--cloud-url" not in said


@pytest.mark.parametrize("named", [False, True])
def test_a_queued_question_is_delivered_as_advised(
    bundle: Path, unsure: str, tmp_path: Path, named: bool
) -> None:
    with CloudServer(lambda _: "B") as server:
        url = server.url
        server.fault = Reply.error(503, "later")
        cloud = ("--cloud-url", url, "--cloud-model", "big", "--cloud-timeout", "2")
        place = ("--outbox", tmp_path / "my outbox.sqlite3") if named else ()
        asked = run("ask", bundle, unsure, *cloud, "--on-unreachable", "queue", *place)
        assert asked.exit_code == 8
        (hint,) = re.findall(r"^To deliver it: (foggen .*)$", asked.stderr, re.MULTILINE)
        server.fault = None
        flushed = run_hint(hint)
    assert flushed.exit_code == 0, flushed.output
    assert flushed.stdout.startswith("1 answered, 0 failed, 0 waiting")


def test_what_is_queued_without_a_cloud_is_delivered_by_naming_one(
    bundle: Path, unsure: str, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(f'on_unreachable = "queue"\n[outbox]\nfile = "{tmp_path}/o.sqlite3"\n')
    asked = run("ask", bundle, unsure, "--policy", policy)
    (hint,) = re.findall(r"^To deliver it: (foggen .*)$", asked.stderr, re.MULTILINE)
    with CloudServer(lambda _: "B") as server:
        assert run_hint(hint.replace("URL", server.url).replace("NAME", "b")).exit_code == 0


@pytest.mark.parametrize("key", [None, "wrong-key"])
def test_a_refused_key_says_where_it_comes_from(
    bundle: Path, unsure: str, tmp_path: Path, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key:
        monkeypatch.setenv(KEY, key)
    hint = f"The cloud's key is taken from the environment: {KEY} ({'set' if key else 'not set'})\n"
    data = tmp_path / "data.jsonl"
    data.write_text('{"question": "A?\\nA. x\\nB. y", "answer": "A"}\n', encoding="utf-8")
    db = ("--on-unreachable", "queue", "--outbox", tmp_path / "o.sqlite3")
    assert run("ask", bundle, unsure, *DEAD, *db).exit_code == 8
    with CloudServer(fault=Reply.error(401, "who are you?")) as server:
        cloud = ("--cloud-url", server.url, "--cloud-model", "big")
        asked = run("ask", bundle, unsure, *cloud)
        flushed = run("outbox", "flush", "--now", "--db", tmp_path / "o.sqlite3", *cloud)
        evaluated = run("eval", bundle, data, *cloud)
    assert [result.exit_code for result in (asked, flushed, evaluated)] == [6, 8, 6]
    for result in (asked, flushed, evaluated):
        assert hint in result.stderr, result.stderr
        assert "wrong-key" not in result.output


def test_a_fallbacks_key_is_named_too(bundle: Path, unsure: str) -> None:
    with CloudServer(fault=Reply.error(401, "who are you?")) as server:
        cloud = ("--cloud-url", server.url, "--cloud-model", "big")
        asked = run("ask", bundle, unsure, *cloud, "--cloud-fallback", server.url, "other")
    assert f"{KEY} (not set), {KEY}_2 (not set)" in asked.stderr


@pytest.mark.parametrize("command", ["ask", "serve"])
def test_only_the_cloud_needs_a_cloud(bundle: Path, command: str) -> None:
    words = ("ask", bundle, "What?") if command == "ask" else ("serve", bundle)
    result = run(*words, "--route", "cloud_only")
    assert result.exit_code == 2
    assert "--route: cloud_only needs --cloud-url URL --cloud-model NAME" in result.stderr


def test_an_altered_prepared_model_is_prepared_as_advised(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "my bundle")
    assert run("prepare", copy).exit_code == 0
    with (tmp_path / "my bundle.prepared" / "model.onnx").open("ab") as file:
        file.write(b"?")
    refused = run("ask", copy, QUESTIONS[0])
    assert refused.exit_code == 3
    (hint,) = re.findall(r"run (foggen prepare .*)$", refused.stderr, re.MULTILINE)
    assert run_hint(hint).exit_code == 0
    assert run("ask", copy, QUESTIONS[0]).exit_code in (0, 5)


def test_a_broken_device_profile_is_replaced_as_advised(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "my bundle"))
    (copy / DEVICE_PROFILE_FILE).write_text("{", encoding="utf-8")
    refused = run("ask", copy, QUESTIONS[0])
    assert refused.exit_code == 2
    (hint,) = re.findall(r"run (foggen tune .*)$", refused.stderr, re.MULTILINE)
    quick = " --threads 1 --rounds 1 --questions 1 --warm-up 0"
    tuned = run_hint(hint + quick)
    assert tuned.exit_code == 0, tuned.output
    assert f"Written to {copy / DEVICE_PROFILE_FILE}." in tuned.stdout.replace("\n", " ")
    assert run("ask", copy, QUESTIONS[0]).exit_code in (0, 5)
