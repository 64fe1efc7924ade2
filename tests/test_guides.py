"""The guides: what they tell a reader to type works, and what they quote is said."""

import ast
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

import foggen_runtime
from tests.conftest import TINY, BundleOf
from tests.support.cloud_server import CloudServer

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
QUICKSTART, PYTHON, GLOSSARY, TROUBLESHOOTING = (
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("quickstart", "python", "glossary", "troubleshooting")
)
CLOUD_URL = "http://127.0.0.1:8000/v1"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def steady(text: str) -> str:
    return re.sub(r"\d+ ms", "# ms", text).strip()


@contextmanager
def serving(command: str) -> Iterator[None]:
    """Run the page's server as in another terminal; it prints its URL when it is ready."""
    with subprocess.Popen(
        ["sh", "-c", f"exec {command}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        assert process.stdout.readline(), "the server did not start"
        yield
        process.terminate()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_quickstart_leads_to_a_decision_and_a_handoff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "tiny_foggen").symlink_to(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(BIN), prepend=":")
    port = free_port()
    here = QUICKSTART.replace(":8000/", f":{port}/").replace("--port 8000", f"--port {port}")
    install, export, sure, unsure, serve, handoff = blocks(here, "sh")
    assert "pip install" in install
    subprocess.run(["sh", "-c", export], check=True)
    codes = []
    said = []
    with serving(serve):
        for command in (sure, unsure, handoff):
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
            codes.append(done.returncode)
            said.append(steady(done.stdout + done.stderr))
        names: dict[str, object] = {}
        exec(blocks(here, "python")[0], names)
    assert codes == [0, 5, 0]
    assert said == [steady(text) for text in blocks(here, "text")]
    assert getattr(names["result"], "source", None) == "local"


def test_every_example_in_python_runs(
    tiny_bundle: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foggen-int4").symlink_to(tiny_bundle("int4"))
    monkeypatch.chdir(tmp_path)
    assert len(blocks(PYTHON, "python")) > 4
    with CloudServer() as server:
        for block in blocks(PYTHON, "python"):
            exec(block.replace(CLOUD_URL, server.url), {})


def test_the_python_page_names_the_public_names_alone() -> None:
    imported = set(re.findall(r"\w+", " ".join(re.findall(r"runtime import (.*)", PYTHON))))
    assert imported <= set(foggen_runtime.__all__)
    for name in foggen_runtime.__all__:
        if name not in ("LogSettings", "CheckpointError"):
            assert re.search(rf"\b{name}\b", PYTHON), f"{name} is not on the page"


@cache
def texts_in_the_code() -> tuple[str, ...]:
    """Every text in the packages, `…` for what is put in when the program runs."""
    texts = [(ROOT / "exporter/foggen_exporter/packaging/templates/board/install.sh").read_text()]
    for package in ("runtime", "exporter"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                    texts.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return tuple(texts)


MESSAGES = re.findall(r"^### `(.*)`$", TROUBLESHOOTING, re.MULTILINE)


@pytest.mark.parametrize("message", MESSAGES)
def test_what_is_to_be_looked_up_is_what_is_said(message: str) -> None:
    assert any(message in text for text in texts_in_the_code())


@pytest.mark.prose
def test_reasons_are_those_of_results() -> None:
    said = (ROOT / "runtime/foggen_runtime/result.py").read_text(encoding="utf-8")
    reasons = re.findall(r"^\| `(\w+)` \|", TROUBLESHOOTING, re.MULTILINE)
    assert len(reasons) > 5
    for reason in reasons:
        assert f"`{reason}`" in said


@pytest.mark.prose
def test_the_glossary_explains_each_word_once() -> None:
    words = re.findall(r"\*\*([^*]+)\*\*", GLOSSARY)
    assert len(words) == len(set(words))
    for word in ("tau", "flip", "ECE", "AUROC", "KL divergence", "TTD", "pp128, tg64", "bundle"):
        assert word in words
