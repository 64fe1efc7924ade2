"""Text from outside on a terminal: it says what it says, and moves no cursor."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime.bundle.manifest import MANIFEST_FILE
from foggen_runtime.cli import foggen
from foggen_runtime.jsonio import dumps
from foggen_runtime.printing import printable_name, printable_text
from tests.conftest import BundleOf
from tests.support.cloud_server import CloudServer

# Clears the screen, sets the title, goes back to the line's start; in one byte, and reversed.
EVIL = "\x1b[2J\x1b]0;title\x07\r\x9b31m\x7f\x00\u202e"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(foggen, arguments)


def controls(text: str) -> set[str]:
    return {char for char in text if ord(char) < 32 or 127 <= ord(char) < 160} - {"\n", "\t"}


def test_names_stay_on_one_line() -> None:
    assert printable_name("Қазақша \N{WHITE SMILING FACE} модель-1.5B") == "Қазақша ☺ модель-1.5B"
    assert printable_name("a\nb\tc" + EVIL).isprintable()
    assert printable_name("a\x1b\n") == r"a\x1b\n"


def test_text_keeps_its_lines_and_joiners() -> None:
    text = "one\n\ttwo \N{ZERO WIDTH JOINER}\N{RIGHT-TO-LEFT MARK} три"
    assert printable_text(text) == text
    assert controls(printable_text(text + EVIL)) == set()
    assert printable_text("a\rb\x9b") == r"a\rb\x9b"
    assert printable_text("\ud800") == r"\ud800"


def test_json_spells_what_a_terminal_obeys() -> None:
    written = dumps({"name": EVIL})
    assert controls(written) == set()
    assert json.loads(written) == {"name": EVIL}


@pytest.fixture
def evil_bundle(tiny_bundle: BundleOf, tmp_path: Path) -> str:
    bundle = Path(shutil.copytree(tiny_bundle("int4"), tmp_path / "bundle"))
    manifest = json.loads((bundle / MANIFEST_FILE).read_text(encoding="utf-8"))
    manifest["model"]["name"] = manifest["quantization"]["recipe"] = EVIL
    manifest["quantization"]["groups"][EVIL] = {"bits": 4}
    manifest["provenance"]["checkpoint"] = EVIL
    (bundle / MANIFEST_FILE).write_text(json.dumps(manifest), encoding="utf-8")
    return str(bundle)


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_inspect(evil_bundle: str, more: tuple[str, ...]) -> None:
    shown = run("inspect", evil_bundle, *more)
    assert shown.exit_code == 0, shown.output
    assert controls(shown.output) == set()
    assert "[2J" in shown.output


def test_errors(evil_bundle: str) -> None:
    path = Path(evil_bundle, MANIFEST_FILE)
    for old, new in (('"format_version"', '"\\u001b[2J"'), ('"model.onnx"', '"m\\u009b.onnx"')):
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        refused = run("inspect", evil_bundle)
        assert refused.exit_code == 3
        assert controls(refused.output) == set()


@pytest.mark.parametrize("more", [(), ("--stream",), ("--json",), ("--stream", "--json")])
def test_answers_of_the_cloud(evil_bundle: str, more: tuple[str, ...]) -> None:
    with CloudServer(lambda _: f"first line\nB {EVIL}") as server:
        arguments = ("--cloud-url", server.url, "--cloud-model", "big", "--route", "cloud_only")
        asked = run("ask", evil_bundle, f"Which? {EVIL}", *arguments, *more)
    assert asked.exit_code == 0, asked.output
    assert controls(asked.output) == set()
    assert "first line" in asked.output


def test_questions_that_wait(evil_bundle: str, tmp_path: Path) -> None:
    outbox = str(tmp_path / "outbox")
    nowhere = ("--cloud-url", "http://127.0.0.1:9/v1", "--cloud-model", "m")
    queueing = ("--route", "cloud_only", "--on-unreachable", "queue", "--outbox", outbox)
    asked = run("ask", evil_bundle, f"Which? {EVIL}", *nowhere, *queueing)
    assert asked.exit_code == 8, asked.output
    listed = run("outbox", "list", "--db", outbox)
    shown = run("outbox", "show", listed.output.split()[0], "--db", outbox)
    assert (listed.exit_code, shown.exit_code) == (0, 0)
    for result in (asked, listed, shown):
        assert controls(result.output) == set()
    assert "[2J" in shown.output
