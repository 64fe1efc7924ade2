"""`foggen ask` on a terminal, and in a pipe."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from foggen_runtime import Foggen
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import first
from tests.support.cloud_server import CloudServer

EXECUTABLE = str(Path(sys.executable).parent / "foggen")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: BundleOf) -> str:
    return str(tiny_bundle("int4"))


@pytest.fixture(scope="module")
def unsure(bundle: str) -> str:
    with Foggen.open(bundle) as foggen:
        return first(foggen, "below_tau")


def on_a_terminal(command: list[str]) -> list[bytes]:
    """Run a command on a terminal of its own, and return what it wrote, write by write."""
    terminal, end = pty.openpty()
    pieces = []
    with subprocess.Popen(command, stdout=end, stderr=end) as process:
        os.close(end)
        # Linux reports an error once nobody holds the terminal any more.
        try:
            while piece := os.read(terminal, 1 << 16):
                pieces.append(piece)
        except OSError:
            pass
    os.close(terminal)
    assert process.returncode == 0, pieces
    return pieces


def test_a_terminal_sees_the_answer_as_it_comes(bundle: str, unsure: str) -> None:
    with CloudServer(lambda _: "The answer is B.") as server:
        command = [EXECUTABLE, "ask", bundle, unsure, "--cloud-url", server.url]
        shown = b"".join(on_a_terminal([*command, "--cloud-model", "big"])).decode()
        whole = b"".join(on_a_terminal([*command, "--cloud-model", "big", "--no-stream"])).decode()
        streamed = [b'"stream": true' in request.body for request in server.requests]
    assert streamed == [True, False]
    assert re.match(r"The answer is B\.\r\n\[cloud: below_tau, confidence ", shown)
    assert re.match(r"The answer is B\.\r\n\[cloud: below_tau, confidence ", whole)


def test_a_pipe_gets_the_answer_whole(bundle: str, unsure: str) -> None:
    command = [EXECUTABLE, "ask", bundle, "--route", "local_only"]
    done = subprocess.run(command, input=unsure, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"[A-Z]\n", done.stdout)
    assert re.fullmatch(r"\[local: mode, confidence .*, \d+ ms\]\n", done.stderr)


def test_a_pipe_may_be_closed_early(bundle: str, unsure: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [EXECUTABLE, "ask", bundle, unsure, "--route", "local_only", "--stream"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


def test_a_terminal_is_asked_for_the_question_it_is_to_type(bundle: str) -> None:
    terminal, end = pty.openpty()
    command = [EXECUTABLE, "ask", bundle, "--route", "local_only"]
    with subprocess.Popen(
        command, stdin=end, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(end)
        os.write(terminal, b"Which is larger?\nA. 3\nB. 5\n\x04")
        stdout, stderr = process.communicate(timeout=120)
    os.close(terminal)
    assert re.fullmatch(r"[A-Z]\n", stdout)
    assert stderr.startswith("Question, then Ctrl-D on a line of its own:\n[local: ")
