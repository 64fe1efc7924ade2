"""Profiling over ssh, to an sshd on loopback, and over a stand-in for adb."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime.bundle.manifest import Manifest
from foggen_runtime.cli import foggen
from foggen_runtime.errors import ConfigError
from foggen_runtime.profiling.remote import RemoteFoggen, Ssh
from foggen_runtime.profiling.schema import parse_profile
from tests.conftest import BundleOf
from tests.support import adb
from tests.support.ssh_server import SSHD, SshServer

FOGGEN = Path(sys.executable).parent / "foggen"
QUICK = (
    *("--rounds", "1", "--questions", "2", "--warm-up", "0", "--pp", "8", "--tg", "2"),
    *("--repetitions", "1", "--threads", "1", "--no-spinning"),
)

needs_sshd = pytest.mark.skipif(SSHD is None, reason="needs sshd: apt-get install openssh-server")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(foggen, ["profile", *map(str, arguments)])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    with SshServer(tmp_path) as started:
        yield started


def over_ssh(server: SshServer, bundle: Path, *more: str | Path) -> Result:
    place = ("--remote-dir", server.home / "push ed", "--ssh-config", server.config)
    return run(bundle, *QUICK, "--host", "board", *place, *more)


@needs_sshd
def test_a_profile_comes_back_over_ssh(tiny_bundle: BundleOf, server: SshServer) -> None:
    bundle = tiny_bundle("int4")
    result = over_ssh(server, bundle, "--remote-command", FOGGEN, "--json")
    assert result.exit_code == 0, result.output
    profile = parse_profile(json.loads(result.stdout), "answer")
    sha256 = Manifest.load(bundle).sha256
    assert profile.bundle.sha256 == sha256
    assert profile.settings.questions == 2
    assert profile.settings.threads == 1
    assert set(profile.summary.tokens_per_second) == {"pp8", "tg2"}
    pushed = server.home / "push ed" / sha256
    for name in Manifest.load(bundle).files:
        assert (pushed / name).read_bytes() == (bundle / name).read_bytes()


@needs_sshd
def test_a_bundle_that_is_there_is_not_pushed_again(
    tiny_bundle: BundleOf, server: SshServer
) -> None:
    bundle = tiny_bundle("int4")
    sha256 = Manifest.load(bundle).sha256
    assert over_ssh(server, bundle, "--remote-command", "true").exit_code == 10
    model = server.home / "push ed" / sha256 / "model.onnx.data"
    before = model.stat().st_mtime_ns
    assert over_ssh(server, bundle, "--remote-command", "true").exit_code == 10
    assert model.stat().st_mtime_ns == before


@needs_sshd
def test_what_fails_there_is_reported_here(tiny_bundle: BundleOf, server: SshServer) -> None:
    result = over_ssh(server, tiny_bundle("int4"), "--remote-command", "/no/such/foggen")
    assert result.exit_code == 10
    assert "failed with status 127" in result.stderr
    result = over_ssh(server, tiny_bundle("int4"), "--remote-command", "echo hello")
    assert result.exit_code == 10
    assert "device: must print a profile, printed 'hello" in result.stderr


def test_a_host_that_nobody_knows(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host board\n  HostName 127.0.0.1\n  Port 1\n  BatchMode yes\n")
    result = run(tiny_bundle("int4"), "--host", "board", "--ssh-config", config)
    assert result.exit_code == 10
    assert "failed with status 255" in result.stderr


def test_a_host_is_never_an_option() -> None:
    with pytest.raises(ConfigError, match="must be a host's name"):
        Ssh("-oProxyCommand=touch /tmp/x")


@pytest.fixture
def adb_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    log = adb.install(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ADB_LOG", str(log))
    return log


def test_a_profile_comes_back_over_adb(
    tiny_bundle: BundleOf, tmp_path: Path, adb_log: Path
) -> None:
    there = ("--adb", adb.SERIAL, "--remote-dir", tmp_path / "phone", "--remote-command", FOGGEN)
    bundle = tiny_bundle("int4")
    result = run(bundle, *QUICK, *there, "--output", tmp_path / "phone.json")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "phone.json").read_text(encoding="utf-8"))
    assert parse_profile(document, "answer").settings.questions == 2
    calls = adb_log.read_text(encoding="utf-8").splitlines()
    assert all(call.startswith(f"-s {adb.SERIAL} ") for call in calls)
    assert sum(" push " in call for call in calls) == 1


def test_an_unknown_serial_number(tiny_bundle: BundleOf, adb_log: Path) -> None:
    result = run(tiny_bundle("int4"), "--adb", "nobody")
    assert result.exit_code == 10
    assert "adb -s nobody shell" in result.stderr


def test_without_adb_it_says_so(
    tiny_bundle: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run(tiny_bundle("int4"), "--adb", adb.SERIAL)
    assert result.exit_code == 10
    assert "adb: cannot be started" in result.stderr


def test_a_wheel_is_pushed_and_used(tiny_bundle: BundleOf, tmp_path: Path, adb_log: Path) -> None:
    """A wheel is a zip that Python imports from; only foggen of another version is told apart."""
    package = Path(parse_profile.__code__.co_filename).parents[1]
    copy = tmp_path / "wheel" / "foggen_runtime"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    marked = copy / "profiling" / "software.py"
    text = marked.read_text(encoding="utf-8")
    assert 'installed_version("foggen")' in text
    marked.write_text(
        text.replace('installed_version("foggen")', '"from the wheel"'), encoding="utf-8"
    )
    wheel = Path(shutil.make_archive(str(tmp_path / "foggen"), "zip", tmp_path / "wheel"))
    wheel = wheel.rename(tmp_path / "foggen-1-py3-none-any.whl")
    there = ("--adb", adb.SERIAL, "--remote-dir", tmp_path / "phone", "--wheel", wheel)
    options = ("--remote-command", sys.executable, "--json")
    result = run(tiny_bundle("int4"), *QUICK, *there, *options)
    assert result.exit_code == 0, result.output
    profile = parse_profile(json.loads(result.stdout[result.stdout.index("{") :]), "answer")
    assert profile.software.foggen == "from the wheel"


def test_the_command_line_there_is_quoted() -> None:
    start = RemoteFoggen("python3", Path("foggen 1.whl")).start("/a b")
    assert shlex.split(start) == [
        *("PYTHONPATH=/a b/foggen 1.whl", "python3", "-c"),
        "from foggen_runtime.cli import main; main()",
    ]
