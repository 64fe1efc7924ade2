"""install.sh, run as its user runs it, and stopped at any point."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.exporter.packaging.conftest import PYTHON, Unpacked, make_python
from tests.support.telemetry import Home

TOOLS = (
    *("awk", "cat", "chmod", "cp", "df", "dirname", "grep", "head", "ln", "mkdir", "mktemp", "mv"),
    *("readlink", "rm", "rmdir", "sed", "sh", "sha256sum", "sync", "tar", "xz"),
)
KILLS = 20


def run(
    unpacked: Unpacked, *words: object, path: Path | None = None, directory: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run install.sh of the package, or of a changed copy of it in `directory`."""
    script = (directory or unpacked.directory) / "install.sh"
    environment = {**os.environ, **({"PATH": str(path)} if path else {})}
    return subprocess.run(
        [str(word) for word in (script, *words)], env=environment, capture_output=True, text=True
    )


def install(unpacked: Unpacked, prefix: Path, **where: Path) -> subprocess.CompletedProcess[str]:
    python = where.pop("python", unpacked.python)
    return run(unpacked, "--prefix", prefix, "--python", python, **where)


def starts(prefix: Path) -> bool:
    """Whether foggen starts; if it does, everything in the tree must be as it was packaged."""
    command = prefix / "bin" / "foggen"
    if not command.exists():
        return False
    subprocess.run([command, "--version"], check=True, capture_output=True)
    tree = prefix / "lib" / "foggen" / "current"
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=tree, check=True)
    return True


def versions(prefix: Path) -> list[str]:
    return sorted(path.name for path in (prefix / "lib" / "foggen" / "versions").iterdir())


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A directory with the programs that install.sh needs, and no Python."""
    directory = tmp_path / "tools"
    directory.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (directory / tool).symlink_to(found)
    return directory


def test_it_installs_and_answers(unpacked: Unpacked, tmp_path: Path) -> None:
    prefix = tmp_path / "a place"
    done = install(unpacked, prefix)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert starts(prefix)
    bundle = prefix / "lib" / "foggen" / "current" / "bundle"
    home = Home(tmp_path / "user")
    question = "Which is larger?\nA) 3\nB) 5"
    asked = home.run([prefix / "bin" / "foggen", "ask", bundle, question, "--tau", "0"])
    assert "[local: " in asked.stderr
    assert home.left() == [], "nor does onnxruntime leave its telemetry"


def test_it_needs_no_more_than_these_tools(unpacked: Unpacked, tools: Path, tmp_path: Path) -> None:
    assert install(unpacked, tmp_path / "prefix", path=tools).returncode == 0
    assert run(unpacked, "--uninstall", "--prefix", tmp_path / "prefix", path=tools).returncode == 0


def test_what_it_installs_is_for_everyone_to_read(unpacked: Unpacked, tmp_path: Path) -> None:
    secretive = os.umask(0o077)
    try:
        assert install(unpacked, tmp_path / "prefix").returncode == 0
    finally:
        os.umask(secretive)
    for path in (tmp_path / "prefix").rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o044 == 0o044, path


def test_run_again_it_changes_nothing(unpacked: Unpacked, tmp_path: Path) -> None:
    install(unpacked, tmp_path)
    before = versions(tmp_path)
    done = install(unpacked, tmp_path)
    assert done.returncode == 0
    assert "already" in done.stderr
    assert versions(tmp_path) == before


def test_run_again_it_mends_what_was_damaged(unpacked: Unpacked, tmp_path: Path) -> None:
    install(unpacked, tmp_path)
    damaged = tmp_path / "lib" / "foggen" / "current" / "lib" / "foggen_runtime" / "cli.py"
    damaged.write_text("raise SystemExit(9)\n")
    assert install(unpacked, tmp_path).returncode == 0
    assert starts(tmp_path)
    assert len(versions(tmp_path)) == 1


def test_uninstalled_it_leaves_nothing_but_what_is_not_its_own(
    unpacked: Unpacked, tmp_path: Path
) -> None:
    prefix = tmp_path / "prefix"
    install(unpacked, prefix)
    fetched = prefix / "lib" / "foggen" / "bundle" / "foggen.json"
    fetched.parent.mkdir()
    fetched.touch()
    done = run(unpacked, "--uninstall", "--prefix", prefix)
    assert done.returncode == 0
    assert "Kept" in done.stderr
    assert [path for path in prefix.rglob("*") if path.is_file()] == [fetched]
    shutil.rmtree(fetched.parent)
    install(unpacked, prefix)
    run(unpacked, "--uninstall", "--prefix", prefix)
    assert not prefix.exists()
    done = run(unpacked, "--uninstall", "--prefix", prefix)
    assert (done.returncode, "no foggen is installed" in done.stderr) == (1, True)


def test_another_foggen_is_left_alone(unpacked: Unpacked, tmp_path: Path) -> None:
    other = tmp_path / "bin" / "foggen"
    other.parent.mkdir()
    other.write_text("mine")
    done = install(unpacked, tmp_path)
    assert done.returncode == 1
    assert "another installation" in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [other]


@pytest.mark.parametrize(
    "words", [["--prefix"], ["--prefix="], ["--frobnicate"], ["--uninstall", "now"]]
)
def test_wrong_usage_is_told(unpacked: Unpacked, words: Sequence[str]) -> None:
    done = run(unpacked, *words)
    assert done.returncode == 2
    assert "Usage: ./install.sh" in done.stderr


STEPS = ("cp", "chmod", "sha256sum", "sed", "sync", "mv", "ln")


@pytest.mark.long
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("tool", STEPS)
def test_killed_at_any_step_and_run_again(
    unpacked: Unpacked, tools: Path, tmp_path: Path, tool: str, moment: str
) -> None:
    kill_at_step(unpacked, tools, tmp_path, tool, moment)


@pytest.mark.parametrize(("tool", "moment"), [("cp", "after"), ("ln", "before")])
def test_killed_at_a_step_and_run_again(
    unpacked: Unpacked, tools: Path, tmp_path: Path, tool: str, moment: str
) -> None:
    kill_at_step(unpacked, tools, tmp_path, tool, moment)


def kill_at_step(unpacked: Unpacked, tools: Path, tmp_path: Path, tool: str, moment: str) -> None:
    prefix = tmp_path / "prefix"
    real = (tools / tool).resolve()
    (tools / tool).unlink()
    last = "" if moment == "before" else f'{real} "$@"\n'
    (tools / tool).write_text(f"#!/bin/sh\n{last}kill -9 0\n")
    (tools / tool).chmod(0o755)
    killed = subprocess.run(
        [unpacked.directory / "install.sh", "--prefix", prefix, "--python", unpacked.python],
        env={**os.environ, "PATH": str(tools)},
        start_new_session=True,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not starts(prefix)
    assert install(unpacked, prefix).returncode == 0
    assert starts(prefix)
    assert len(versions(prefix)) == 1


@pytest.mark.long
def test_killed_at_any_moment_of_an_upgrade_the_old_version_starts(
    unpacked: Unpacked, tmp_path: Path
) -> None:
    install(unpacked, tmp_path)
    tree = tmp_path / "lib" / "foggen" / "current"
    started = time.monotonic()
    (tree / "interpreter").write_text("/another/python\n")
    assert install(unpacked, tmp_path).returncode == 0
    whole = time.monotonic() - started
    generator = random.Random(7)
    for _ in range(KILLS):
        # Another spelling of the same Python makes it install anew.
        other = f"{unpacked.python.parent}/./{unpacked.python.name}"
        (tree / "interpreter").write_text(f"{other}\n")
        process = subprocess.Popen(
            [unpacked.directory / "install.sh", "--prefix", tmp_path, "--python", unpacked.python],
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(generator.uniform(0, whole))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert starts(tmp_path)
    assert install(unpacked, tmp_path).returncode == 0
    assert len(versions(tmp_path)) == 1


@pytest.mark.parametrize("what", ["altered", "missing", "sums altered", "sums missing"])
def test_a_damaged_package_is_refused(unpacked: Unpacked, tmp_path: Path, what: str) -> None:
    copy = Path(shutil.copytree(unpacked.directory, tmp_path / "copy"))
    weights = copy / "bundle" / "model.onnx.data"
    sums = copy / "SHA256SUMS"
    if what == "altered":
        with weights.open("r+b") as file:
            file.seek(1_000_000)
            file.write(b"!")
    elif what == "missing":
        weights.unlink()
    elif what == "sums altered":
        sums.write_text("".join(sums.read_text().splitlines(keepends=True)[:-1]))
    else:
        sums.unlink()
    prefix = tmp_path / "prefix"
    done = install(unpacked, prefix, directory=copy)
    assert done.returncode == 1
    assert "the package is damaged" in done.stderr
    assert not starts(prefix)
    assert versions(prefix) == []


@pytest.mark.parametrize("lost", [500, 3000, 100_000])
def test_a_torn_archive_does_not_install(unpacked: Unpacked, tmp_path: Path, lost: int) -> None:
    torn = tmp_path / "torn.tar.xz"
    torn.write_bytes(unpacked.archive.read_bytes()[:-lost])
    done = subprocess.run(["tar", "xf", torn], cwd=tmp_path, check=False, capture_output=True)
    assert done.returncode != 0
    assert list(tmp_path.rglob("foggen_runtime"))
    prefix = tmp_path / "prefix"
    for script in tmp_path.rglob("install.sh"):
        subprocess.run(["sh", script, "--prefix", prefix, "--python", unpacked.python], check=False)
    assert not prefix.exists()


def test_too_little_space_is_found_before_anything_is_written(
    unpacked: Unpacked, tmp_path: Path
) -> None:
    listing = on_small_disk(unpacked, tmp_path, "3m", shim_df=False)
    assert "needs " in listing
    assert "MiB free" in listing
    assert "exit 1" in listing
    assert "versions" not in listing


@pytest.mark.parametrize("size", ["1m", "4m"])
def test_a_disk_that_fills_up_leaves_nothing_that_starts(
    unpacked: Unpacked, tmp_path: Path, size: str
) -> None:
    listing = on_small_disk(unpacked, tmp_path, size, shim_df=True)
    assert "exit 1" in listing
    assert "No space left" in listing
    assert "bin/foggen" not in listing
    assert "staging" not in listing.split("exit 1")[1]


def on_small_disk(unpacked: Unpacked, tmp_path: Path, size: str, *, shim_df: bool) -> str:
    """Install to a file system of this size; return messages, exit code and what is there."""
    (tmp_path / "disk").mkdir()
    shims = tmp_path / "shims"
    shims.mkdir()
    if shim_df:
        (shims / "df").write_text("#!/bin/sh\nprintf 'head\\na 1 1 99999999 1 b\\n'\n")
        (shims / "df").chmod(0o755)
    script = (
        f"mount -t tmpfs -o size={size} none {tmp_path}/disk || exit 77\n"
        f"PATH={shims}:$PATH {unpacked.directory}/install.sh "
        f"--prefix {tmp_path}/disk/prefix --python {unpacked.python} 2>&1\n"
        f"echo exit $?\nfind {tmp_path}/disk\n"
    )
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode in (1, 77):
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    return done.stdout


FAKES = {
    "old": ('os.confstr = lambda name: "glibc 2.27"', "needs glibc 2.28 or newer, has 2.27"),
    "musl": ("os.confstr = lambda name: None", "another C library"),
    "arm32": (
        'os.uname = lambda: ("Linux", "pi", "6", "1", "armv7l")',
        "is for armv7l with 64 bits",
    ),
}


@pytest.mark.parametrize("fake", FAKES)
def test_a_system_it_cannot_run_on_is_told(unpacked: Unpacked, tmp_path: Path, fake: str) -> None:
    code, message = FAKES[fake]
    startup = tmp_path / "startup"
    startup.mkdir()
    (startup / "sitecustomize.py").write_text(f"import os\n{code}\n")
    python = make_python(tmp_path / f"python{PYTHON}", startup)
    prefix = tmp_path / "prefix"
    done = install(unpacked, prefix, python=python)
    assert done.returncode == 1
    assert message in done.stderr
    assert not prefix.exists()


def test_only_an_old_python(unpacked: Unpacked, tools: Path, tmp_path: Path) -> None:
    old = tools / "python3"
    old.write_text("#!/bin/sh\necho cpython 3.10 aarch64 64 glibc 2.35\n")
    old.chmod(0o755)
    done = run(unpacked, "--prefix", tmp_path / "prefix", path=tools)
    assert done.returncode == 1
    assert f"needs CPython {PYTHON}, found {old} (cpython 3.10)" in done.stderr
    assert "--python PATH/bin/python" in done.stderr
    old.unlink()
    done = run(unpacked, "--prefix", tmp_path / "prefix", path=tools)
    assert f"needs CPython {PYTHON}, found none" in done.stderr
    assert not (tmp_path / "prefix").exists()


def test_the_python_on_the_path_is_found(unpacked: Unpacked, tools: Path, tmp_path: Path) -> None:
    (tools / unpacked.python.name).symlink_to(unpacked.python)
    done = run(unpacked, "--prefix", tmp_path / "prefix", path=tools)
    assert done.returncode == 0, done.stderr
    assert starts(tmp_path / "prefix")


def test_the_unit_names_what_was_installed(unpacked: Unpacked, tmp_path: Path) -> None:
    install(unpacked, tmp_path)
    unit = (tmp_path / "lib" / "foggen" / "current" / "installed.service").read_text()
    assert f"ExecStart={tmp_path}/bin/foggen serve {tmp_path}/lib/foggen/current/bundle" in unit
    assert "@PREFIX@" not in unit
