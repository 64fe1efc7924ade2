"""A bundle loaded: what `foggen tune` found reaches the engine, and flags win over it."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from foggen_runtime import EngineOptions, Foggen, OpenOptions
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import DEVICE_PROFILE_FILE
from foggen_runtime.cli import foggen
from foggen_runtime.errors import BundleError
from foggen_runtime.files import read_small_text
from foggen_runtime.model import device_profile
from foggen_runtime.model.cores import big_cores
from foggen_runtime.model.device_profile import Candidate, DeviceProfile, device_key
from foggen_runtime.model.local_model import LocalModel
from foggen_runtime.model.prepared import find_prepared
from foggen_runtime.model.preparing import prepare
from tests.conftest import BundleOf
from tests.runtime.ask.test_foggen import QUESTIONS
from tests.support.sessions import watch_sessions

TUNED = EngineOptions(threads=3, spinning=False, kleidiai=False)


@pytest.fixture
def bundle(tiny_bundle: BundleOf, tmp_path: Path) -> Bundle:
    """A bundle that was tuned on this device."""
    opened = Bundle.open(Path(shutil.copytree(tiny_bundle("int4"), tmp_path / "bundle")))
    chosen = Candidate(3, spinning=False, kleidiai=False)
    profile = DeviceProfile(1, "2026-01-01T00:00:00Z", device_key(opened), chosen, ())
    profile.save(opened.path(DEVICE_PROFILE_FILE))
    return opened


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[EngineOptions]:
    return watch_sessions(monkeypatch)


def test_the_engine_runs_as_it_was_tuned(bundle: Bundle, sessions: list[EngineOptions]) -> None:
    Foggen.open(bundle.directory).close()
    assert sessions == [TUNED]


@pytest.mark.parametrize("field", ["threads", "spinning", "kleidiai"])
def test_each_knob_is_taken_for_itself(
    field: str, bundle: Bundle, sessions: list[EngineOptions]
) -> None:
    chosen = replace(Candidate(2, spinning=True, kleidiai=True), **{field: getattr(TUNED, field)})
    profile = DeviceProfile(1, "2026-01-01T00:00:00Z", device_key(bundle), chosen, ())
    profile.save(bundle.path(DEVICE_PROFILE_FILE))
    Foggen.open(bundle.directory).close()
    assert sessions == [replace(EngineOptions(threads=2), **{field: getattr(TUNED, field)})]


def test_what_code_asks_for_wins(bundle: Bundle, sessions: list[EngineOptions]) -> None:
    wanted = EngineOptions(threads=1, spinning=False, arena=False)
    Foggen.open(bundle.directory, options=OpenOptions(wanted)).close()
    assert sessions == [wanted]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), TUNED),
        (("--threads", "1"), EngineOptions(threads=1)),
        (("--no-spinning",), EngineOptions(threads=big_cores(), spinning=False)),
        (("--threads", "1", "--kleidiai", "--spinning"), EngineOptions(threads=1)),
    ],
    ids=str,
)
def test_flags_win(
    flags: tuple[str, ...],
    expected: EngineOptions,
    bundle: Bundle,
    sessions: list[EngineOptions],
) -> None:
    arguments = ["ask", str(bundle.directory), QUESTIONS[0], "--route", "local_only", *flags]
    result = CliRunner().invoke(foggen, arguments)
    assert result.exit_code == 0, result.output
    assert sessions == [expected]


def test_a_profile_of_another_device_leaves_the_defaults(
    bundle: Bundle, sessions: list[EngineOptions]
) -> None:
    chosen = Candidate(3, spinning=False, kleidiai=False)
    elsewhere = replace(device_key(bundle), cpu="another")
    profile = DeviceProfile(1, "2026-01-01T00:00:00Z", elsewhere, chosen, ())
    profile.save(bundle.path(DEVICE_PROFILE_FILE))
    Foggen.open(bundle.directory).close()
    assert sessions == [EngineOptions(threads=big_cores())]


def test_what_was_prepared_for_other_kernels_is_not_used(bundle: Bundle) -> None:
    for prepared_for, status in ((TUNED, "ready"), (EngineOptions(), "stale")):
        prepare(bundle, prepared_for)
        prepared = LocalModel(Bundle.open(bundle.directory), OpenOptions()).prepared
        assert prepared == find_prepared(bundle, TUNED)
        assert prepared.status == status


def test_weights_are_packed_with_the_options_they_are_prepared_for(
    bundle: Bundle, sessions: list[EngineOptions]
) -> None:
    prepare(bundle, TUNED)
    assert sessions == [TUNED]


@pytest.mark.parametrize(
    ("flags", "readiness"),
    [
        ((), "yes ("),
        (("--no-kleidiai",), "yes ("),
        (("--kleidiai",), "no longer: made for kleidiai"),
    ],
    ids=str,
)
def test_the_bundle_is_prepared_as_it_was_tuned(
    flags: tuple[str, ...], readiness: str, bundle: Bundle
) -> None:
    runner = CliRunner()
    assert runner.invoke(foggen, ["prepare", str(bundle.directory), *flags]).exit_code == 0
    shown = runner.invoke(foggen, ["inspect", str(bundle.directory)]).stdout
    assert f"prepared        {readiness}" in shown


def test_inspection_reads_the_device_profile_once(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[Path] = []

    def reading(path: Path, max_bytes: int) -> str:
        paths.append(path)
        return read_small_text(path, max_bytes)

    monkeypatch.setattr(device_profile, "read_small_text", reading)
    assert CliRunner().invoke(foggen, ["inspect", str(bundle.directory)]).exit_code == 0
    assert paths == [bundle.path(DEVICE_PROFILE_FILE)]


def test_the_session_begins_to_open_before_what_can_wait_is_imported() -> None:
    script = "import sys, foggen_runtime.model.local_model; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    )
    waiting = {"decide.constrained", "model.decoders", "model.preparing", "model.snapshot", "text"}
    imported = set(done.stdout.split())
    assert "foggen_runtime.model.engine" in imported
    assert not {f"foggen_runtime.{name}" for name in waiting} & imported
    assert not {"concurrent.futures", "logging", "tempfile", "regex", "tokenizers"} & imported


def test_an_engine_that_does_not_open_is_named(bundle: Bundle) -> None:
    graph = bundle.path(bundle.manifest.graph.file)
    graph.write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"model\.onnx: onnxruntime .* refuses it"):
        LocalModel(bundle, OpenOptions())
