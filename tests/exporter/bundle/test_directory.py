"""What is left beside a bundle's place, and whose it is."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from foggen_exporter.bundle.directory import Leftovers, bundle_directory, remove_leftovers
from foggen_exporter.cli import export_command
from foggen_runtime.bundle.bundle import BUNDLE
from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.placing import Place
from tests.conftest import TINY

# Writes into its directory, and what an fp32 reference is written to beside it, then waits.
WRITING = """
import sys, tempfile, time
from pathlib import Path
from foggen_exporter.bundle.directory import bundle_directory
from foggen_runtime.bundle.bundle import BUNDLE
from foggen_runtime.placing import Place
with bundle_directory(Place.directory(Path(sys.argv[1]), BUNDLE, force=False)) as directory:
    (directory / "model.onnx.data").write_bytes(bytes(1000))
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f"{directory.name}.") as beside:
        (Path(beside) / "model.onnx.data").write_bytes(bytes(1000))
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "my [best] bundle"


@pytest.fixture
def exporting(target: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of an export to the target."""
    command = [sys.executable, "-c", WRITING, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def place_of(target: Path) -> Place:
    return Place.directory(target, BUNDLE, force=False)


def beside(target: Path) -> list[Path]:
    return sorted(target.parent.iterdir())


def test_what_a_killed_export_left_is_removed(
    target: Path, exporting: subprocess.Popen[str]
) -> None:
    kill(exporting)
    left = beside(target)
    assert len(left) == 2
    assert remove_leftovers(target) == Leftovers(tuple(left), ())
    assert beside(target) == []


def test_what_another_export_is_writing_stays(
    target: Path, exporting: subprocess.Popen[str]
) -> None:
    writing = beside(target)
    assert remove_leftovers(target) == Leftovers((), tuple(writing))
    assert beside(target) == writing
    with bundle_directory(place_of(target)) as ours:
        assert remove_leftovers(target).kept == tuple(sorted([*writing, ours]))


def test_only_what_certainly_is_an_exports_goes(
    target: Path, exporting: subprocess.Popen[str]
) -> None:
    kill(exporting)
    name, elsewhere = f".{target.name}.partial-", target.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("years of work")
    others = [
        target.with_name(f"{name}abcdefgh"),
        target.with_name(f"{name}1-abcdefgh.bak"),
        target.with_name(f"{name}1-abcdefgh.zip.old"),
        target.with_name(f".{target.name}2.partial-1-abcdefgh"),
        target.with_name(f".{target.name}.replaced-abcdefgh"),
    ]
    for other in others:
        other.mkdir()
    file, link = target.with_name(f"{name}1-filefile"), target.with_name(f"{name}1-linklink")
    file.write_text("no directory")
    link.symlink_to(elsewhere)
    found = remove_leftovers(target)
    assert len(found.removed) == 2
    assert found.kept == tuple(sorted([*others[:3], file, link]))
    assert beside(target) == sorted([*others, file, link, elsewhere])
    assert (elsewhere / "thesis.txt").read_text() == "years of work"


def test_another_users_directory_stays(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = target.with_name(f".{target.name}.partial-1-abcdefgh")
    left.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert remove_leftovers(target) == Leftovers((), (left,))
    assert left.exists()


def test_a_bundle_takes_its_place_and_nothing_is_left(target: Path) -> None:
    with bundle_directory(place_of(target)) as directory:
        (directory / "foggen.json").write_text("{}")
    assert beside(target) == [target]
    assert [path.name for path in target.iterdir()] == ["foggen.json"]


def test_a_new_directory_that_was_swept_away_is_made_again(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another export may look between its making and its locking."""
    open_ = os.open
    swept: list[Path] = []

    def sweeping(path: Path, flags: int) -> int:
        if not swept:
            swept.append(path)
            Path(path).rmdir()
        return open_(path, flags)

    monkeypatch.setattr(os, "open", sweeping)
    with bundle_directory(place_of(target)) as directory:
        assert directory.exists()
        assert directory != swept[0]


def test_the_next_export_says_what_it_removed(tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from foggen_exporter import cli, export\n"
        "export.save_manifest = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "cli.run()\n"
    )
    arguments = [str(TINY / "checkpoint"), "--quant", "int4", "-o", str(tmp_path / "bundle")]
    killed = subprocess.run(
        [sys.executable, "-c", script, *arguments], check=False, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    unknown = tmp_path / ".bundle.partial-unknown"
    unknown.mkdir()
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    assert f"Removed {left}, left by an export that was killed" in result.stderr
    assert (
        f"Warning: {unknown} belongs to another export; if none is running, remove it"
        in result.stderr
    )
    assert sorted(tmp_path.iterdir()) == [unknown, tmp_path / "bundle"]


EXPORTING = """
import os, sys
from pathlib import Path
from foggen_exporter import cli, export
save, target = export.save_manifest, Path(sys.argv[sys.argv.index("-o") + 1])
def meanwhile(*arguments):
    save(*arguments)
    target.mkdir()
    (target / "notes.txt").write_text("important")
export.save_manifest = meanwhile
cli.run()
"""


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_what_appears_during_an_export_stays_and_so_does_the_export(
    tmp_path: Path, force: tuple[str, ...]
) -> None:
    words = [str(TINY / "checkpoint"), "--quant", "int4", "-o", str(tmp_path / "out"), *force]
    done = subprocess.run(
        [sys.executable, "-c", EXPORTING, *words], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert (tmp_path / "out" / "notes.txt").read_text() == "important"
    (kept,) = tmp_path.glob("out.finished-*")
    assert f"what was finished is kept in {kept}: move it where you want it" in done.stderr
    assert Manifest.load(kept / "out").quantization.recipe == "int4"
    assert remove_leftovers(tmp_path / "out") == Leftovers((), ())
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out", kept]


def test_a_linked_output_is_written_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    out = tmp_path / "out"
    out.symlink_to("disk")
    arguments = [str(TINY / "checkpoint"), "--quant", "int4", "-o", str(out)]
    for more, recipe in (((), "int4"), (("--quant", "fp32", "--force"), "fp32")):
        result = CliRunner().invoke(export_command, [*arguments, *more])
        assert result.exit_code == 0, result.output
        assert out.readlink() == Path("disk")
        assert Manifest.load(tmp_path / "disk").quantization.recipe == recipe
    assert sorted(tmp_path.iterdir()) == [tmp_path / "disk", out]


def test_force_never_takes_what_lies_in_a_bundle(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [str(TINY / "checkpoint"), "--quant", "int4", "-o", str(out), "--force"]
    assert CliRunner().invoke(export_command, arguments).exit_code == 0
    (out / "device.json").write_text("{}")  # what foggen tune writes is the bundle's
    assert CliRunner().invoke(export_command, arguments).exit_code == 0
    (out / "decisions.jsonl").write_text("{}")
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 1
    assert "out holds decisions.jsonl, which is not part of the bundle" in result.stderr
    assert (out / "decisions.jsonl").exists()
