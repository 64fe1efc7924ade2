"""Which wheels a package is made of, and how pip is asked for them."""

import importlib.metadata
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from foggen_exporter.packaging.requirements import Resolver, read_constraints
from foggen_exporter.packaging.targets import TARGETS, oldest_glibc, parse_pythons
from foggen_exporter.packaging.wheels import Pin, WheelStore
from foggen_runtime.errors import ConfigError
from tests.support.wheels import RecordingStore, fill_store, make_wheel

ARM64 = TARGETS["linux-arm64"]
HERE = {
    name: importlib.metadata.version(name)
    for name in ("click", "httpx", "numpy", "onnxruntime", "regex")
}


def test_everything_foggen_needs_is_found(wheels: Path) -> None:
    def fail(sentence: str) -> None:
        raise AssertionError(sentence)

    resolution = Resolver(WheelStore(wheels, fail), ARM64, ("3.11", "3.13"), {}).resolve()
    found = {pin.name: str(pin.version) for pin in resolution.wheels}
    assert found.items() >= HERE.items()
    assert set(HERE) <= set(resolution.needs["foggen"])
    counts = {
        str(pin.name): len({wheel.path for wheel in w}) for pin, w in resolution.wheels.items()
    }
    assert (counts["numpy"], counts["regex"], counts["click"]) == (2, 2, 1)
    assert all(
        "aarch64" in wheel.path.name or "none-any" in wheel.path.name
        for group in resolution.wheels.values()
        for wheel in group
    )


def test_needs_of_needs_are_followed_and_unused_ones_left_out(tmp_path: Path) -> None:
    make_wheel(
        tmp_path,
        "onnxruntime",
        HERE["onnxruntime"],
        "cp311-cp311-manylinux_2_28_aarch64",
        metadata=(
            "Requires-Dist: protobuf>=4",
            "Requires-Dist: idna>=2",
            "Requires-Dist: anyio; python_version < '3.10'",
            "Requires-Dist: h11; extra == 'dev'",
            "License-Expression: MIT",
        ),
    )
    store = RecordingStore(tmp_path, lambda _: None)
    resolution = Resolver(store, ARM64, ("3.11",), {}).resolve()
    assert resolution.needs["onnxruntime"] == ("idna",)
    assert "protobuf" not in resolution.needs
    assert resolution.needs["idna"] == ()


def test_constraints_decide_versions(tmp_path: Path) -> None:
    (tmp_path / "pins.txt").write_text("# tried\nnumpy==2.0.1  # older\n\n")
    versions = read_constraints(tmp_path / "pins.txt")
    store = RecordingStore(tmp_path, lambda _: None)
    resolution = Resolver(store, ARM64, ("3.11",), versions).resolve()
    assert Pin(canonicalize_name("numpy"), Version("2.0.1")) in resolution.wheels
    versions[canonicalize_name("numpy")] = Version("1.20")
    with pytest.raises(ConfigError, match=r"foggen needs numpy>=1.26, the version to take is 1.20"):
        Resolver(store, ARM64, ("3.11",), versions).resolve()


@pytest.mark.parametrize("line", ["numpy", "numpy>=2", "numpy==2.*", "==2", "numpy==2,<3"])
def test_a_constraint_is_one_version(tmp_path: Path, line: str) -> None:
    (tmp_path / "pins.txt").write_text(f"click==8.1\n{line}\n")
    with pytest.raises(ConfigError, match=r"pins.txt:2: must be NAME==VERSION"):
        read_constraints(tmp_path / "pins.txt")


def test_pip_finds_the_wheel_for_the_other_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = [Pin(canonicalize_name(name), Version("9.1")) for name in ("numpy", "click")]
    for target in TARGETS.values():
        for pin in pins:
            fill_store(tmp_path / "index", pin, target, "3.12")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    said: list[str] = []
    store = WheelStore(tmp_path / "cache", said.append)
    found = store.fetch(pins, ARM64, "3.12")
    assert [wheel.path.name for wheel in found.values()] == [
        "numpy-9.1-cp312-cp312-manylinux_2_28_aarch64.whl",
        "click-9.1-py3-none-any.whl",
    ]
    assert said == ["Downloading for linux-arm64, Python 3.12: numpy==9.1, click==9.1"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert store.fetch(pins, ARM64, "3.12") == found
    with pytest.raises(ConfigError, match=r"pip failed for numpy==9\.1"):
        store.fetch(pins[:1], ARM64, "3.13")
    assert sorted(path.suffix for path in store.directory.iterdir()) == [".whl", ".whl"]


def test_a_damaged_wheel_is_named(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "click", "1.0", files={"click/core.py": b"value = 12345\n"})
    content = wheel.path.read_bytes()
    wheel.path.write_bytes(content[:-40])
    with pytest.raises(ConfigError, match=r"click-1.0-py3-none-any.whl is damaged"):
        assert wheel.files
    swapped = make_wheel(tmp_path, "click", "1.0", files={"click/core.py": b"value = 12345\n"})
    other = make_wheel(tmp_path / "x", "click", "1.0", files={"click/core.py": b"value = 54321\n"})
    record = "click-1.0.dist-info/RECORD"
    files = {**other.files, record: swapped.files[record]}
    with pytest.raises(ConfigError, match=r"click/core.py is not the file its RECORD lists"):
        swapped._check_record(files)


def test_glibc_is_that_of_the_most_portable_tag(tmp_path: Path) -> None:
    both = make_wheel(
        tmp_path, "x", "1", "cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64"
    )
    old = make_wheel(tmp_path, "x", "2", "cp310-abi3-manylinux2014_aarch64")
    assert oldest_glibc(both.tags) == (2, 27)
    assert oldest_glibc(old.tags) == (2, 17)
    assert oldest_glibc(make_wheel(tmp_path, "x", "3").tags) is None


def test_pythons_come_in_order() -> None:
    assert parse_pythons("3.13, 3.11") == ("3.11", "3.13")
    for text in ("3.10", "3", "", "3.11,", "3.12.1"):
        with pytest.raises(ConfigError, match="python: must be versions from"):
            parse_pythons(text)
