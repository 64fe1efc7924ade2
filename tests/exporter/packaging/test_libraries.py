"""What a package is made of, as pip finds it for another machine."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest

from foggen_exporter.packaging.libraries import Pip, Resolution
from foggen_exporter.packaging.targets import TARGETS, oldest_glibc, parse_pythons
from foggen_runtime.errors import ConfigError
from tests.support.wheels import fill_for_foggen, make_typical_wheel, make_wheel

ARM64 = TARGETS["linux-arm64"]
HERE = {
    name: importlib.metadata.version(name)
    for name in ("click", "httpx", "numpy", "onnxruntime", "regex")
}
TAG = "cp311-cp311-manylinux_2_28_aarch64"
MIT = "License-Expression: MIT"


def fail(sentence: str) -> None:
    raise AssertionError(sentence)


def resolve(
    cache: Path,
    *pythons: str,
    constraint: Path | None = None,
    announce: Callable[[str], None] = fail,
) -> Resolution:
    return Pip(ARM64, cache, constraint, announce).resolve(pythons or ("3.11",))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty index, and no other place where pip looks."""
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "index").as_uri())
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    return tmp_path / "index"


@pytest.fixture
def cache(tmp_path: Path, index: Path) -> Path:
    """A cache that lacks nothing for Python 3.11."""
    fill_for_foggen(tmp_path / "cache", ARM64, ("3.11",))
    return tmp_path / "cache"


def replace(cache: Path, name: str, *metadata: str) -> Path:
    """Put a distribution that says something else in the place of the one in the cache."""
    (old,) = cache.glob(f"{name}-*")
    old.unlink()
    tag = TAG if name == "onnxruntime" else "py3-none-any"
    return make_wheel(cache, name, HERE[name], tag, metadata=(*metadata, MIT))


def test_everything_foggen_needs_is_found(wheels: Path) -> None:
    resolution = resolve(wheels, "3.11", "3.13")
    found = {name: group[0].version for name, group in resolution.libraries.items()}
    assert found.items() >= HERE.items()
    assert set(HERE) <= set(resolution.needs["foggen"])
    counts = {
        name: len({library.wheel for library in group})
        for name, group in resolution.libraries.items()
    }
    assert (counts["numpy"], counts["regex"], counts["click"]) == (2, 2, 1)
    assert all(
        "aarch64" in library.wheel or "none-any" in library.wheel
        for group in resolution.libraries.values()
        for library in group
    )


def test_needs_of_needs_are_followed_and_unused_ones_left_out(cache: Path) -> None:
    replace(
        cache,
        "onnxruntime",
        "Requires-Dist: protobuf>=4",
        "Requires-Dist: idna>=2",
        "Requires-Dist: anyio; python_version < '3.10'",
        "Requires-Dist: sniffio; extra == 'dev'",
    )
    for name in ("protobuf", "idna"):
        make_wheel(cache, name, importlib.metadata.version(name))
    resolution = resolve(cache)
    assert resolution.needs["onnxruntime"] == ("idna",)
    assert "protobuf" not in resolution.libraries
    assert resolution.needs["idna"] == ()


def test_what_another_python_needs_is_not_forgotten(cache: Path) -> None:
    """A marker is judged by pip for the Python that it runs on."""
    replace(cache, "click", "Requires-Dist: idna; platform_machine == 'aarch64'")
    with pytest.raises(
        ConfigError, match=r"idna is needed on linux-arm64, Python 3.11, but not by"
    ):
        resolve(cache)


def test_constraints_decide_versions(cache: Path, tmp_path: Path) -> None:
    pins = tmp_path / "pins.txt"
    pins.write_text("# tried\nNumPy==2.0.1  # older\n\n")
    make_typical_wheel(cache, "numpy", "2.0.1", ARM64, "3.11")
    assert resolve(cache, constraint=pins).libraries["numpy"][0].version == "2.0.1"
    assert resolve(cache).libraries["numpy"][0].version == HERE["numpy"]
    pins.write_text("numpy==1.20\n")
    make_typical_wheel(cache, "numpy", "1.20", ARM64, "3.11")
    with pytest.raises(
        ConfigError, match=r"pip failed .*numpy>=1\.26.*\(constraint\) numpy==1\.20"
    ):
        resolve(cache, constraint=pins, announce=lambda _: None)


def test_what_is_not_in_the_cache_is_downloaded_once(cache: Path, index: Path) -> None:
    (numpy,) = cache.glob("numpy-*")
    (index / "numpy").mkdir(parents=True)
    (index / "numpy" / "index.html").write_text(f'<a href="{numpy.name}">{numpy.name}</a>')
    numpy.rename(index / "numpy" / numpy.name)
    said: list[str] = []
    found = resolve(cache, announce=said.append)
    assert found.libraries["numpy"][0].wheel == numpy.name
    assert said == ["Downloading libraries for linux-arm64, Python 3.11"]
    assert numpy.exists()
    assert all(path.suffix == ".whl" for path in cache.iterdir())
    assert resolve(cache).libraries["numpy"]


def test_what_nobody_has_is_named(cache: Path) -> None:
    with pytest.raises(ConfigError, match=rf"Python 3.12: .*numpy=={HERE['numpy']}"):
        resolve(cache, "3.12", announce=lambda _: None)


def test_files_are_those_of_the_wheel_less_scripts_and_data(cache: Path) -> None:
    (old,) = cache.glob("numpy-*")
    version, tag = HERE["numpy"], "cp311-cp311-manylinux_2_28_aarch64"
    names = ["numpy/_core.cpython-311-aarch64-linux-gnu.so"]
    names += [f"numpy-{version}.data/{place}/f2py" for place in ("scripts", "data")]
    assert make_wheel(cache, "numpy", version, tag, dict.fromkeys(names, b"")) == old
    (numpy,) = resolve(cache).libraries["numpy"]
    assert not [name for name in numpy.files if "f2py" in name]
    assert numpy.files[f"{numpy.info}/licenses/LICENSE"] == b"The licence of numpy.\n"
    assert "numpy/_core.cpython-311-aarch64-linux-gnu.so" in numpy.files
    assert f"{numpy.info}/RECORD" not in numpy.files


def test_a_damaged_wheel_is_named(cache: Path) -> None:
    (click,) = cache.glob("click-*")
    click.write_bytes(click.read_bytes()[:-40])
    with pytest.raises(ConfigError, match=rf"pip failed .*{click.name}"):
        resolve(cache, announce=lambda _: None)


def test_glibc_is_that_of_the_most_portable_tag() -> None:
    both = "x-1-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl"
    assert oldest_glibc(both) == (2, 27)
    assert oldest_glibc("x-2-cp310-abi3-manylinux2014_aarch64.whl") == (2, 17)
    assert oldest_glibc("x-3-py3-none-any.whl") is None


def test_pythons_come_in_order() -> None:
    assert parse_pythons("3.13, 3.11") == ("3.11", "3.13")
    for text in ("3.10", "3", "", "3.11,", "3.12.1"):
        with pytest.raises(ConfigError, match="python: must be versions from"):
            parse_pythons(text)
