import os
import shutil
from pathlib import Path

import pytest

from foggen_runtime.bundle import Bundle
from foggen_runtime.errors import BundleError, ConfigError
from foggen_runtime.hub import locate_bundle
from tests.conftest import BundleOf


@pytest.fixture
def copy(tiny_bundle: BundleOf, tmp_path: Path) -> Path:
    """A bundle that may be damaged, and was never opened."""
    target = tmp_path / "bundle"
    shutil.copytree(tiny_bundle("int4"), target)
    (target / ".verified.json").unlink(missing_ok=True)
    return target


def flip_byte(path: Path) -> None:
    """Change a byte and leave size and times as they were."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json"])
def test_an_altered_file_is_found_on_first_use(copy: Path, name: str) -> None:
    flip_byte(copy / name)
    with pytest.raises(BundleError, match=f"{name}: SHA-256 must be"):
        Bundle.open(copy)


def test_later_uses_look_at_sizes_and_times(copy: Path) -> None:
    Bundle.open(copy)
    flip_byte(copy / "model.onnx.data")
    Bundle.open(copy)
    with pytest.raises(BundleError, match=r"model.onnx.data: SHA-256 must be"):
        Bundle.open(copy, verify=True)


def test_a_touched_file_is_hashed_again(copy: Path) -> None:
    Bundle.open(copy)
    flip_byte(copy / "model.onnx.data")
    os.utime(copy / "model.onnx.data")
    with pytest.raises(BundleError, match=r"model.onnx.data: SHA-256 must be"):
        Bundle.open(copy)


def test_a_truncated_file_is_found_by_its_size(copy: Path) -> None:
    Bundle.open(copy)
    path = copy / "model.onnx.data"
    size = path.stat().st_size
    os.truncate(path, size - 1)
    with pytest.raises(BundleError, match=f"must have {size} bytes, has {size - 1}"):
        Bundle.open(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer.json: cannot be read"):
        Bundle.open(copy)


def test_a_failed_verification_is_not_remembered(copy: Path) -> None:
    flip_byte(copy / "model.onnx")
    for _ in range(2):
        with pytest.raises(BundleError, match="SHA-256 must be"):
            Bundle.open(copy)


@pytest.mark.parametrize("name", ["no/such/bundle", "nowhere", "/no/such/directory"])
def test_what_is_neither_directory_nor_hub_id(name: str) -> None:
    with pytest.raises(BundleError, match="must be a directory or a hub id"):
        locate_bundle(name)


def test_a_path_that_is_not_utf8_is_refused(tiny_bundle: BundleOf, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(tiny_bundle("fp32"), tmp_path / "lat\udce9"))
    with pytest.raises(ConfigError, match=r"bundle: its path must be UTF-8, is b'.*lat\\xe9'"):
        Bundle.open(directory)
