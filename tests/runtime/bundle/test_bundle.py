import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from foggen_runtime.bundle import checked_files
from foggen_runtime.bundle.bundle import Bundle
from foggen_runtime.bundle.hub import locate_bundle
from foggen_runtime.bundle.manifest import MANIFEST_FILE, Manifest
from foggen_runtime.errors import BundleError, ConfigError
from foggen_runtime.files import sha256_stream
from tests.conftest import BundleOf


@pytest.fixture
def copy(tiny_bundle: BundleOf, tmp_path: Path) -> Path:
    """A bundle that may be damaged, and was never opened."""
    return Path(shutil.copytree(tiny_bundle("int4"), tmp_path / "bundle"))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one with each file that is hashed."""
    names: list[str] = []

    def hashing(file: BinaryIO) -> str:
        names.append(str(file.name))
        return sha256_stream(file)

    monkeypatch.setattr(checked_files, "sha256_stream", hashing)
    return names


def rename_in_manifest(bundle: Path, old: str, new: str) -> None:
    """Call a file otherwise, wherever the manifest names it."""
    path = bundle / MANIFEST_FILE
    text = path.read_text(encoding="utf-8").replace(f'"{old}"', f'"{new}"')
    path.write_text(text, encoding="utf-8")


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


def test_hashes_are_computed_once(copy: Path, hashed: list[str], tmp_path: Path) -> None:
    Bundle.open(copy)
    files = len(hashed)
    Bundle.open(copy)
    copy.rename(tmp_path / "moved")
    Bundle.open(tmp_path / "moved")
    assert (files, len(hashed)) == (len(Manifest.load(tmp_path / "moved").files), files)
    Bundle.open(tmp_path / "moved", verify=True)
    assert len(hashed) == 2 * files


def test_a_copy_is_hashed_again(copy: Path, hashed: list[str], tmp_path: Path) -> None:
    Bundle.open(copy)
    files = len(hashed)
    subprocess.run(["cp", "-a", copy, tmp_path / "copied"], check=True)
    flip_byte(tmp_path / "copied" / "tokenizer.json")
    with pytest.raises(BundleError, match=r"tokenizer.json: SHA-256 must be"):
        Bundle.open(tmp_path / "copied")
    assert len(hashed) > files


def test_nothing_is_written_into_a_bundle_and_nothing_in_it_believed(copy: Path) -> None:
    before = sorted(copy.iterdir())
    Bundle.open(copy)
    assert sorted(copy.iterdir()) == before
    # What foggen once took as proof, forged for altered weights.
    flip_byte(copy / "model.onnx.data")
    manifest = Manifest.load(copy)
    stats = {name: (copy / name).stat() for name in manifest.files}
    files = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    forged = {"bundle_sha256": manifest.sha256, "files": files}
    (copy / ".verified.json").write_text(json.dumps(forged), encoding="utf-8")
    with pytest.raises(BundleError, match=r"model.onnx.data: SHA-256 must be"):
        Bundle.open(copy)


def test_a_note_of_somebody_else_is_not_believed(
    copy: Path, hashed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Bundle.open(copy)
    (note,) = (tmp_path / "cache" / "foggen" / "verified").iterdir()
    files = len(hashed)
    note.chmod(0o666)  # anybody may have written it
    Bundle.open(copy)
    assert len(hashed) == 2 * files
    note.write_text("{}", encoding="utf-8")
    Bundle.open(copy)
    assert len(hashed) == 3 * files
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: 12345)
        Bundle.open(copy)
    # Root's notes hold for everybody, another user's do not.
    assert len(hashed) == (3 if note.stat().st_uid == 0 else 4) * files


def test_where_no_note_can_be_kept_each_use_hashes(
    copy: Path, hashed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Bundle.open(copy)
    files = len(hashed)
    Bundle.open(copy)
    assert len(hashed) == 2 * files


def test_an_alteration_that_keeps_size_and_time_is_found(copy: Path) -> None:
    Bundle.open(copy)
    flip_byte(copy / "model.onnx.data")
    with pytest.raises(BundleError, match=r"model.onnx.data: SHA-256 must be"):
        Bundle.open(copy)


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


def test_a_link_out_of_the_bundle_is_refused(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / "tokenizer.json", tmp_path / "elsewhere.json")
    (copy / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(BundleError, match=r"tokenizer.json: must lie inside"):
        Bundle.open(copy)
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer.json").symlink_to("tokenizer.json")
    with pytest.raises(BundleError, match=r"tokenizer.json: cannot be read"):
        Bundle.open(copy)


def test_a_directory_of_links_in_the_way_is_refused(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (copy / "sub").symlink_to(tmp_path / "elsewhere")
    (copy / "model.onnx").rename(tmp_path / "elsewhere" / "model.onnx")
    rename_in_manifest(copy, "model.onnx", "sub/model.onnx")
    with pytest.raises(BundleError, match=r"sub/model.onnx: must lie inside"):
        Bundle.open(copy)


def test_the_hubs_cache_is_a_directory_of_links(copy: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "repo" / "blobs", tmp_path / "repo" / "snapshots" / "main"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in copy.iterdir():
        path.rename(blobs / f"hash-of-{path.name}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"hash-of-{path.name}")
    Bundle.open(snapshot)
    shutil.move(blobs / "hash-of-model.onnx", tmp_path)
    (snapshot / "model.onnx").unlink()
    (snapshot / "model.onnx").symlink_to("../../../hash-of-model.onnx")
    with pytest.raises(BundleError, match=r"model.onnx: must lie inside"):
        Bundle.open(snapshot)


@pytest.mark.parametrize(
    "name", ["foggen.json", "model.onnx", "prefix_snapshot.npy", "device.json"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_what_is_no_file_neither_hangs_nor_acts(copy: Path, name: str, kind: str) -> None:
    (copy / name).unlink(missing_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(copy / name)
        case "device":
            (copy / name).symlink_to("/dev/zero")
        case "directory":
            (copy / name).mkdir()
    opening = f"from foggen_runtime import Foggen; Foggen.open({str(copy)!r})"
    command = [sys.executable, "-c", opening]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    last = done.stderr.strip().splitlines()[-1]
    kinds = "ConfigError" if name == "device.json" else "BundleError"
    assert last.startswith(f"foggen_runtime.errors.{kinds}: "), last
    assert name in last
    assert "must be a regular file" in last or "must lie inside" in last


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
