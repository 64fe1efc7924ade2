"""Everything the README shows is run here."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BundleOf
from tests.support.cloud_server import CloudServer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
CLOUD_URL = "http://127.0.0.1:8000/v1"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def steady(text: str) -> str:
    """Take out what differs from run to run."""
    text = re.sub(r"\d+(\.\d+)? (ms|s)\b", r"# \2", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:#", text)
    return text.replace(f"{ROOT}/", "").strip()


@pytest.fixture
def here(tiny_bundle: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that holds a bundle under the name that the README uses."""
    (tmp_path / "foggen-int4").symlink_to(tiny_bundle("int4"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_demo_prints_what_is_shown() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py"],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert steady(blocks("text")[0]) == steady(done.stdout)


def test_the_commands_run(here: Path) -> None:
    script = next(block for block in blocks("sh") if "foggen ask" in block)
    command = shlex.split(script[script.index("foggen ask") :])
    with CloudServer() as server:
        command = [server.url if word == CLOUD_URL else word for word in command]
        done = subprocess.run(
            [BIN / command[0], *command[1:]], check=False, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert re.match(r"\[(local|cloud): ", done.stderr)
    assert re.fullmatch(r".+\n", done.stdout)


def test_the_python_example_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks("python")
    with CloudServer() as server:
        exec(example.replace(CLOUD_URL, server.url), {})
    assert re.search(r"(local|cloud) ", capsys.readouterr().out)


@pytest.mark.prose
def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z-]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.prose
@pytest.mark.parametrize("table", ["tiny-flips.md"])
def test_tables_are_those_of_the_results(table: str) -> None:
    text = (ROOT / "benchmarks" / "results" / table).read_text(encoding="utf-8")
    assert text.strip() in README


@pytest.mark.prose
@pytest.mark.parametrize(
    ("processor", "machine"),
    [("with VNNI", "x86_64-avx512_vnni-2core"), ("with AVX2 only", "x86_64-avx2-2core")],
)
@pytest.mark.parametrize(
    ("peers", "column"),
    [("peers as people run them", 0), ("peers that keep the prompt's prefix too", 2)],
)
def test_ratios_are_those_of_the_results(
    processor: str, machine: str, peers: str, column: int
) -> None:
    results = ROOT / "benchmarks" / "results" / f"{machine}.md"
    report = results.read_text(encoding="utf-8").split("## Ratios")[1]
    (shown,) = re.findall(rf"\| {processor}: {peers} \| ([0-9.]+) \| ([0-9.]+) \|", README)
    for ratio, recipe in zip(shown, ("int8", "int4"), strict=True):
        pattern = rf"^\| \*\*foggen {recipe}, snapshot\*\* \| (.*)$"
        (cells,) = re.findall(pattern, report, re.MULTILINE)
        assert cells.split(" | ")[column].startswith(f"{ratio} (")


@pytest.mark.prose
def test_memory_is_that_of_the_results() -> None:
    results = ROOT / "benchmarks" / "results" / "x86_64-avx2-2core-memory.md"
    rows = {}
    for line in results.read_text(encoding="utf-8").splitlines():
        if line.startswith("| int4 |"):
            _, prepared, _, _, peak, anonymous, _, _, disk = line.strip("| ").split(" | ")
            rows[prepared] = peak, anonymous, f"{int(disk):,}"
    text = README.replace("\n", " ")
    (peak, _, disk), (prepared_peak, anonymous, prepared_disk) = rows["no"], rows["yes"]
    assert f"int4 takes {peak} MB at most" in text
    assert f"only {anonymous} MB is memory that the system cannot take back" in text
    assert f"disk, {disk} to {prepared_disk} MB" in text
    assert f"peak, {peak} to {prepared_peak} MB" in text
