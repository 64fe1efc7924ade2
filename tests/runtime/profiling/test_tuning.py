"""Tuning with processes whose times are known, and the file it leaves beside a bundle."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from foggen_runtime import EngineOptions
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.manifest import DEVICE_PROFILE_FILE
from foggen_runtime.cli import foggen
from foggen_runtime.errors import ConfigError
from foggen_runtime.model.device_profile import (
    Candidate,
    DeviceProfile,
    find_device_profile,
    load_device_profile,
)
from foggen_runtime.model.kernel_files import KernelFiles
from foggen_runtime.profiling import tuning
from foggen_runtime.profiling.question_set import built_in_questions
from foggen_runtime.profiling.request import RoundRequest
from foggen_runtime.profiling.runner import Plan
from foggen_runtime.profiling.samples import Round
from foggen_runtime.profiling.schema import Settings
from foggen_runtime.profiling.tuning import (
    Search,
    default_threads,
    gain,
    tune,
    uses_kleidiai,
)
from tests.conftest import BundleOf
from tests.support.kernel_root import PI5_CPUINFO, write_files
from tests.support.profiles import make_round, make_sample


class Device:
    """Takes as long as a function of the settings says, and remembers what was asked."""

    def __init__(self, decision_ms: Callable[[Settings], float]) -> None:
        self._decision_ms = decision_ms
        self.asked: list[Settings] = []

    def __call__(self, request: RoundRequest) -> Round:
        self.asked.append(request.settings)
        time = self._decision_ms(request.settings)
        level = 0.75 if request.settings.kleidiai else 0.5
        return make_round([make_sample(decision_ms=time, confidence=level)])


@pytest.fixture
def bundle(tiny_bundle: BundleOf, tmp_path: Path) -> Bundle:
    return Bundle.open(Path(shutil.copytree(tiny_bundle("int4"), tmp_path / "bundle")))


def search(
    bundle: Bundle, device: Device, root: Path = Path("/"), *, kleidiai: bool = True
) -> DeviceProfile:
    plan = Plan(bundle, Settings(questions=1), built_in_questions(), root=root)
    return tune(plan, Search(2, 0.03, (1, 2, 4), kleidiai), measure=device)


def test_each_knob_keeps_what_was_best_before_it(bundle: Bundle) -> None:
    device = Device(
        lambda settings: (
            100 / (settings.threads or 1) - 5 * settings.spinning - 9 * settings.kleidiai
        )
    )
    assert search(bundle, device).chosen == Candidate(4, spinning=True, kleidiai=True)
    assert [settings.threads for settings in device.asked] == [1, 2, 4, 2, 4, 1] + [4] * 8
    assert [settings.spinning for settings in device.asked[6:]] == [False, True, True, False] + [
        True
    ] * 4
    assert all(settings.prompt_length == 0 for settings in device.asked)


def test_what_is_hardly_slower_and_more_frugal_wins(bundle: Bundle) -> None:
    device = Device(lambda settings: 102 - (settings.threads or 1) / 2 - settings.spinning)
    assert search(bundle, device).chosen == Candidate(1, spinning=False, kleidiai=False)


def test_confidences_that_change_are_counted(bundle: Bundle) -> None:
    trials = search(bundle, Device(lambda settings: 10.0)).trials
    assert [trial.changed_confidences for trial in trials] == [0] * 6 + [1]


def test_kleidiai_is_left_alone_where_it_has_no_kernels(bundle: Bundle, tmp_path: Path) -> None:
    profile = search(bundle, Device(lambda settings: 10.0), kleidiai=False)
    assert all(trial.candidate.kleidiai for trial in profile.trials)
    root = write_files(tmp_path / "root", {"proc/cpuinfo": PI5_CPUINFO})
    assert uses_kleidiai(KernelFiles(root))
    assert not uses_kleidiai(KernelFiles(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("processors", "expected"), [(1, {1}), (6, {1, 2, 4, 6}), (8, {1, 2, 4, 8})]
)
def test_threads_worth_trying(
    monkeypatch: pytest.MonkeyPatch, processors: int, expected: set[int]
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    monkeypatch.setattr(tuning, "big_cores", lambda: 1)
    assert set(default_threads()) == expected
    monkeypatch.setattr(tuning, "big_cores", lambda: 3)
    assert (3 in default_threads()) == (processors >= 3)


def test_the_gain_is_that_of_each_knob_in_its_own_turns(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Candidate(2, spinning=True, kleidiai=True)
    monkeypatch.setattr(tuning, "untuned", lambda: usual)
    device = Device(
        lambda settings: (
            (60 if settings.threads == 4 else 90)
            * (0.5 if not settings.spinning else 1)
            * (1 if settings.kleidiai else 2)
        )
    )
    profile = search(bundle, device)
    assert profile.chosen == Candidate(4, spinning=False, kleidiai=True)
    assert gain(profile) == pytest.approx(90 / 60 / 0.5)
    monkeypatch.setattr(tuning, "untuned", lambda: replace(usual, threads=3))
    assert gain(profile) is None


@pytest.mark.parametrize(("load", "warned"), [(0.2, False), (3.0, True)])
def test_it_says_what_was_gained_and_where_it_wrote_and_warns_of_others(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, load: float, warned: bool
) -> None:
    device = Device(lambda settings: 30.0 if settings.spinning else 20.0)
    monkeypatch.setattr(tuning.tune, "__defaults__", (lambda: None, device))
    monkeypatch.setattr(tuning, "big_cores", lambda: 1)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    result = run("tune", bundle.directory, *QUICK)
    assert result.exit_code == 0, result.output
    assert "1.50 times as fast as the defaults (threads 1, spinning on, " in result.stdout
    assert f"Written to {bundle.path(DEVICE_PROFILE_FILE)}." in result.stdout
    warning = f"Warning: this machine is busy: its load average is {load:.2f}, on "
    assert (warning in result.stderr) == warned


def saved(bundle: Bundle) -> DeviceProfile:
    profile = search(bundle, Device(lambda settings: 100 / (settings.threads or 1)))
    profile.save(bundle.path(DEVICE_PROFILE_FILE))
    return profile


def test_a_device_profile_is_followed_and_changes_no_hash(bundle: Bundle) -> None:
    assert load_device_profile(bundle) == EngineOptions()
    profile = saved(bundle)
    assert find_device_profile(bundle) == profile
    assert load_device_profile(bundle) == EngineOptions(threads=4, spinning=False, kleidiai=False)
    again = Bundle.open(bundle.directory, verify=True)
    assert again.manifest.sha256 == bundle.manifest.sha256


@pytest.mark.parametrize("field", ["cpu", "onnxruntime", "bundle_sha256"])
def test_a_device_profile_from_elsewhere_is_passed_over(bundle: Bundle, field: str) -> None:
    profile = saved(bundle)
    other = replace(profile, key=replace(profile.key, **{field: "another"}))
    other.save(bundle.path(DEVICE_PROFILE_FILE))
    assert find_device_profile(bundle) is None
    assert load_device_profile(bundle) == EngineOptions()


def test_the_key_is_the_processor_as_the_kernel_names_it(bundle: Bundle, tmp_path: Path) -> None:
    root = write_files(tmp_path / "root", {"proc/cpuinfo": PI5_CPUINFO})
    profile = search(bundle, Device(lambda settings: 10.0), root)
    profile.save(bundle.path(DEVICE_PROFILE_FILE))
    assert profile.key.cpu == "4x Cortex-A76"
    assert find_device_profile(bundle, root) == profile
    assert find_device_profile(bundle) is None


def test_a_broken_device_profile_is_named(bundle: Bundle) -> None:
    path = bundle.path(DEVICE_PROFILE_FILE)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="remove the file, or run foggen tune "):
        find_device_profile(bundle)
    path.write_text('{"schema_version": 1}', encoding="utf-8")
    with pytest.raises(ConfigError, match="field 'created' is missing"):
        find_device_profile(bundle)
    path.write_text('{"schema_version": 2}', encoding="utf-8")
    assert find_device_profile(bundle) is None


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(foggen, list(map(str, arguments)))


QUICK = ("--rounds", "1", "--questions", "2", "--warm-up", "0", "--threads", "1,2")


def test_tuning_writes_beside_the_bundle_and_profiling_follows(bundle: Bundle) -> None:
    result = run("tune", bundle.directory, *QUICK)
    assert result.exit_code == 0, result.output
    written = json.loads(bundle.path(DEVICE_PROFILE_FILE).read_text(encoding="utf-8"))
    assert written["key"]["bundle_sha256"] == bundle.manifest.sha256
    assert "threads 1, spinning on, KleidiAI on" in result.stdout
    profile = find_device_profile(bundle)
    assert profile
    forced = replace(profile, chosen=Candidate(2, spinning=False, kleidiai=True))
    forced.save(bundle.path(DEVICE_PROFILE_FILE))
    small = ("--rounds", "1", "--questions", "1", "--warm-up", "0", "--pp", "0", "--tg", "0")
    settings = json.loads(run("profile", bundle.directory, *small, "--json").stdout)["settings"]
    assert (settings["threads"], settings["spinning"]) == (2, False)
    assert settings["device_profile"] == profile.created
    typed = ("--threads", "1", "--spinning", "--json")
    settings = json.loads(run("profile", bundle.directory, *small, *typed).stdout)["settings"]
    assert (settings["threads"], settings["spinning"]) == (1, True)


def test_several_bundles_are_tuned_and_then_compared(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(bundle.directory, tmp_path / "other")
    device = Device(lambda settings: 10.0)
    monkeypatch.setattr(tuning.tune, "__defaults__", (lambda: None, device))
    monkeypatch.setattr(tuning.rank, "__defaults__", (lambda: None, device))
    result = run("tune", bundle.directory, other, *QUICK)
    assert result.exit_code == 0, result.output
    assert (other / DEVICE_PROFILE_FILE).exists()
    assert bundle.path(DEVICE_PROFILE_FILE).exists()
    assert "Together\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threads", "0,1"), "--threads: must be numbers such as 1,2,4, is '0,1'"),
        (("--threads", "many"), "threads: must be numbers such as 1,2,4, is 'many'"),
        (("--output", "nowhere/device.json"), "nowhere/device.json: cannot be written"),
    ],
)
def test_impossible_wishes(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    device = Device(lambda settings: 10.0)
    monkeypatch.setattr(tuning.tune, "__defaults__", (lambda: None, device))
    result = run("tune", bundle.directory, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
