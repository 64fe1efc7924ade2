"""The command line, as a user and a script see it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime.cli import foggen
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.cloud_server import CloudServer, Reply

EXECUTABLE = Path(sys.executable).parent / "foggen"


@pytest.fixture(scope="module")
def bundle(tiny_bundle: BundleOf) -> str:
    return str(tiny_bundle("int4"))


@pytest.fixture(scope="module")
def sure(bundle: str) -> str:
    return next(text for text in QUESTIONS if run("ask", bundle, text).exit_code == 0)


@pytest.fixture(scope="module")
def unsure(bundle: str) -> str:
    return next(text for text in QUESTIONS if run("ask", bundle, text).exit_code == 5)


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(foggen, arguments, input=stdin)


def test_a_local_answer_is_a_readable_line(bundle: str, sure: str) -> None:
    result = run("ask", bundle, sure)
    assert result.exit_code == 0
    assert re.fullmatch(r"[A-Z]\n", result.stdout)
    assert re.fullmatch(r"\[local: confident, confidence .*, \d+ ms\]\n", result.stderr)


def test_json_is_one_object(bundle: str, sure: str) -> None:
    document = json.loads(run("ask", bundle, sure, "--json").stdout)
    assert document["schema_version"] == 1
    assert (document["source"], document["reason"]) == ("local", "confident")
    assert next(iter(document)) == "schema_version"


def test_a_deferred_question_says_how_to_go_on(bundle: str, unsure: str) -> None:
    result = run("ask", bundle, unsure)
    assert result.exit_code == 5
    assert result.stdout == ""
    assert "No answer [below_tau, confidence " in result.stderr
    assert "--cloud-url URL --cloud-model NAME" in result.stderr
    assert "--route local_only" in result.stderr


def test_the_question_may_come_from_standard_input(bundle: str, sure: str) -> None:
    result = run("ask", bundle, "--json", stdin=sure + "\n")
    asked = json.loads(run("ask", bundle, sure, "--json").stdout)
    assert json.loads(result.stdout)["usage"] == asked["usage"]


def test_broken_utf8_is_refused(bundle: str) -> None:
    result = run("ask", bundle, stdin=b"What\xff?")
    assert result.exit_code == 4
    assert "must be UTF-8, is not at byte 4" in result.stderr


def test_broken_text_in_an_argument_is_refused(bundle: str) -> None:
    done = subprocess.run(
        [os.fsencode(EXECUTABLE), b"ask", os.fsencode(bundle), b"What\xff?"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 4
    assert b"Traceback" not in done.stderr


def test_an_empty_question_is_refused(bundle: str) -> None:
    result = run("ask", bundle, " ")
    assert result.exit_code == 4
    assert "Error: question: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tau", "2"), "--tau: must be within [0, 1], is 2.0"),
        (("--cloud-url", "http://127.0.0.1:9/v1"), "must be given together, one is missing"),
        (("--threads", "0"), "--threads: must be at least 1, is 0"),
        (("--max-new-tokens", "0"), "--max-new-tokens: must be at least 1, is 0"),
        (("--options",), "the question has no lines such as"),
        (("--options", "--decoding", "greedy"), "options"),
    ],
)
def test_wrong_usage(bundle: str, arguments: tuple[str, ...], message: str) -> None:
    result = run("ask", bundle, "What?", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_no_bundle(tmp_path: Path) -> None:
    result = run("ask", str(tmp_path), "What?")
    assert result.exit_code == 3
    assert "is not a bundle" in result.stderr


def test_the_cloud_gets_the_key_from_the_environment(
    bundle: str, unsure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOGGEN_CLOUD_API_KEY", "secret-key")
    with CloudServer(lambda _: "B") as server:
        arguments = ("--cloud-url", server.url, "--cloud-model", "big")
        result = run("ask", bundle, unsure, *arguments)
        streamed = run("ask", bundle, unsure, *arguments, "--stream")
        keys = {request.headers["authorization"] for request in server.requests}
    assert result.exit_code == 0
    for asked in (result, streamed):
        assert asked.stdout == "B\n"
        assert asked.stderr.startswith("[cloud: below_tau, confidence ")
    assert keys == {"Bearer secret-key"}
    assert "secret-key" not in result.output


def test_a_dead_cloud_has_its_own_exit_code(bundle: str, unsure: str) -> None:
    result = run(
        "ask", bundle, unsure, "--cloud-url", "http://127.0.0.1:9/v1", "--cloud-model", "m"
    )
    assert result.exit_code == 6
    assert result.stdout == ""
    assert "No answer [cloud_unreachable: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "streamed"),
    [
        ((), False),
        (("--stream",), True),
        (("--stream", "--no-cloud-stream"), False),
        (("--cloud-stream",), True),
    ],
)
def test_the_cloud_is_asked_for_a_stream_where_one_is_wanted_or_it_is_set(
    bundle: str, unsure: str, arguments: tuple[str, ...], streamed: bool
) -> None:
    with CloudServer(lambda _: "B") as server:
        cloud = ("--cloud-url", server.url, "--cloud-model", "big")
        assert run("ask", bundle, unsure, *cloud, *arguments).exit_code == 0
    assert json.loads(server.requests[0].body)["stream"] is streamed


@pytest.mark.parametrize("stream", [(), ("--stream",)])
def test_a_refusal_says_so_and_is_no_answer(
    bundle: str, unsure: str, stream: tuple[str, ...]
) -> None:
    body = b'{"choices": [{"message": {"refusal": "I cannot help."}}]}'
    with CloudServer(fault=Reply(200, body)) as server:
        cloud = ("--cloud-url", server.url, "--cloud-model", "big")
        result = run("ask", bundle, unsure, *cloud, *stream)
    assert result.exit_code == 6
    assert "No answer [cloud_refused: cloud: refused to answer: I cannot help." in result.stderr


def test_inspect_shows_and_verifies(bundle: str, tmp_path: Path) -> None:
    assert "4 bits, blocks of 128" in run("inspect", bundle).stdout
    document = json.loads(run("inspect", bundle, "--json").stdout)
    assert document["quantization"]["recipe"] == "int4"
    damaged = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    with (damaged / "model.onnx.data").open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff\x00\xff")
    result = run("inspect", str(damaged), "--verify")
    assert result.exit_code == 3
    assert "SHA-256 must be" in result.stderr


@pytest.mark.parametrize("arguments", [(), ("ask",), ("inspect",), ("completion",)])
def test_help_has_an_example(arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.stdout


def test_ask_tables_its_exit_codes() -> None:
    text = run("ask", "--help").stdout
    assert all(f"  {code}  " in text for code in (0, 2, 3, 4, 5, 6, 7))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    assert "_FOGGEN_COMPLETE" in run("completion", shell).stdout


def test_the_whole_hash_fits_a_terminal(bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("inspect", bundle).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(re.fullmatch(r"bundle sha256 +[0-9a-f]{64}", line) for line in lines)


def test_quiet_leaves_the_answer_alone(bundle: str, sure: str, unsure: str) -> None:
    answered, deferred = (run("ask", bundle, text, "--quiet") for text in (sure, unsure))
    assert re.fullmatch(r"[A-Z]\n", answered.stdout)
    assert (deferred.exit_code, deferred.stdout) == (5, "")
    assert answered.stderr == deferred.stderr == ""
    assert run("ask", bundle, " ", "--quiet").stderr.startswith("Error: question: ")
