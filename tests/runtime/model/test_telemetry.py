"""No command leaves a file of onnxruntime's telemetry, asks for a name or goes to a server."""

import http.client
import json
import shutil
import sys
import time
from pathlib import Path

import pytest

from foggen_runtime.model.telemetry import WANTED_VARIABLE
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.telemetry import HAS_STRACE, Home, reached_out, traced

FOGGEN = Path(sys.executable).parent / "foggen"
# onnxruntime's telemetry waits 9 seconds, then looks up its server.
SENDS_AFTER_SECONDS = 9
_IMPORTING = "from foggen_runtime.model.quiet_onnxruntime import ort"
_FEW = ("--questions", "1", "--warm-up", "0", "--rounds", "1", "--threads", "1")
_COMMANDS = {
    "ask": ("ask", "BUNDLE", QUESTIONS[0]),
    "calibrate": ("calibrate", "BUNDLE", "DATA", "--max-cloud-share", "1"),
    "compare": ("compare", "BUNDLE", "BUNDLE", "--data", "DATA"),
    "eval": ("eval", "BUNDLE", "DATA"),
    "inspect": ("inspect", "BUNDLE"),
    "prepare": ("prepare", "BUNDLE"),
    "profile": ("profile", "BUNDLE", *_FEW, "--pp", "0", "--tg", "0"),
    "tune": ("tune", "BUNDLE", *_FEW),
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "user")


@pytest.fixture
def bundle(tiny_bundle: BundleOf, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle("int4"), tmp_path / "bundle"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    lines = [json.dumps({"id": str(i), "question": QUESTIONS[0], "answer": "A"}) for i in range(4)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_these_tests_would_see_it(home: Home) -> None:
    done = home.run([sys.executable, "-c", _IMPORTING], **{WANTED_VARIABLE: "1"})
    assert done.returncode == 0, done.stderr
    assert any("onnxruntime" in name for name in home.left()), "and who wants it can have it"


def test_a_variable_of_the_environment_does_not_turn_it_on_by_itself(home: Home) -> None:
    home.run([sys.executable, "-c", _IMPORTING], ORT_DISABLE_TELEMETRY="0")
    assert home.left() == []


@pytest.mark.parametrize("name", _COMMANDS)
def test_a_command_leaves_no_file(name: str, home: Home, bundle: Path, data: Path) -> None:
    named = {"BUNDLE": bundle, "DATA": data}
    done = home.run([FOGGEN, *(named.get(word, word) for word in _COMMANDS[name])])
    assert done.returncode in (0, 5), done.stderr
    assert home.left() == []


@pytest.mark.skipif(not HAS_STRACE, reason="needs strace")
class TestNetwork:
    """Whatever strace sees of a process, and of those that it starts."""

    def test_ask_opens_no_socket(self, home: Home, bundle: Path, tmp_path: Path) -> None:
        calls = tmp_path / "calls"
        with traced([FOGGEN, "ask", bundle, QUESTIONS[0]], home, calls) as process:
            assert process.wait() in (0, 5)
        assert "socket(" not in calls.read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        "seconds",
        [SENDS_AFTER_SECONDS + 3, pytest.param(90, marks=pytest.mark.long)],
    )
    def test_serve_opens_none_but_its_own(
        self, seconds: float, home: Home, bundle: Path, tmp_path: Path
    ) -> None:
        pytest.importorskip("uvicorn")
        calls = tmp_path / "calls"
        with traced([FOGGEN, "serve", bundle, "--port", "0"], home, calls) as process:
            assert process.stdout is not None
            host, port = process.stdout.readline().split("//")[1].strip("/ \n").split(":")
            assert _answered(host, int(port)) == 200
            time.sleep(seconds)
        text = calls.read_text(encoding="utf-8")
        assert "accept4(" in text, "the trace must show the question"
        assert reached_out(text) == []
        assert home.left() == []


def _answered(host: str, port: int) -> int:
    """Ask a question, and return the status of the response."""
    connection = http.client.HTTPConnection(host, port, timeout=60)
    body = {"model": "any", "messages": [{"role": "user", "content": QUESTIONS[0]}]}
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    try:
        return connection.getresponse().status
    finally:
        connection.close()
