"""Archives that are the same bytes each time, read by tar, xz and sha256sum."""

import os
import subprocess
from pathlib import Path

import pytest

from foggen_exporter.packaging.archive import (
    ArchivePlace,
    Entry,
    parse_size,
    write_archive,
)
from foggen_exporter.packaging.listed_files import ListedFile
from foggen_runtime.bundle.manifest import FileInfo, file_info
from foggen_runtime.errors import ConfigError


def entries(weights: ListedFile) -> list[Entry]:
    return [
        Entry("top/a.txt", b"text\n"),
        Entry("top/run", b"#!/bin/sh\n", True),
        Entry(f"top/{'d' * 120}/weights", weights),
    ]


@pytest.fixture
def weights(tmp_path: Path) -> ListedFile:
    path = tmp_path / "weights"
    path.write_bytes(bytes(range(256)) * 40 + os.urandom(20_000))
    return ListedFile(path, file_info(path))


def write(path: Path, weights: ListedFile, part_bytes: int | None = None) -> list[Path]:
    path.parent.mkdir(exist_ok=True)
    place = ArchivePlace.of(path, force=True)
    return write_archive(place, entries(weights), part_bytes, lambda count: None)


def test_tar_unpacks_it(tmp_path: Path, weights: ListedFile) -> None:
    (archive,) = write(tmp_path / "a.tar.xz", weights)
    subprocess.run(["xz", "--test", archive], check=True)
    subprocess.run(["tar", "xf", archive], cwd=tmp_path, check=True)
    assert (tmp_path / "top" / "a.txt").read_bytes() == b"text\n"
    assert os.access(tmp_path / "top" / "run", os.X_OK)
    assert not os.access(tmp_path / "top" / "a.txt", os.X_OK)
    assert (tmp_path / "top" / ("d" * 120) / "weights").read_bytes() == weights.path.read_bytes()


def test_it_names_no_user_and_no_time_of_day(tmp_path: Path, weights: ListedFile) -> None:
    (archive,) = write(tmp_path / "a.tar.xz", weights)
    words = ["tar", "tvf", str(archive), "--numeric-owner", "--full-time", "--utc"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        assert line.split()[1] == "0/0"
        assert "1980-01-01 00:00:00" in line


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, weights: ListedFile) -> None:
    (one,) = write(tmp_path / "one" / "a.tar.xz", weights)
    os.utime(weights.path, (1, 1))
    weights.path.chmod(0o600)
    (two,) = write(tmp_path / "two" / "a.tar.xz", weights)
    assert one.read_bytes() == two.read_bytes()


def test_parts_together_are_the_whole(tmp_path: Path, weights: ListedFile) -> None:
    (whole,) = write(tmp_path / "whole" / "a.tar.xz", weights)
    parts = write(tmp_path / "parts" / "a.tar.xz", weights, part_bytes=5000)
    assert [path.name for path in parts[:2]] == ["a.tar.xz.000", "a.tar.xz.001"]
    assert {path.stat().st_size for path in parts[:-1]} == {5000}
    assert b"".join(path.read_bytes() for path in parts) == whole.read_bytes()
    subprocess.run(["sha256sum", "-c", "a.tar.xz.sha256"], cwd=tmp_path / "parts", check=True)
    parts[1].write_bytes(b"!")
    words = ["sha256sum", "-c", "a.tar.xz.sha256"]
    assert subprocess.run(words, cwd=tmp_path / "parts", check=False).returncode == 1


def test_parts_of_an_earlier_run_do_not_stay(tmp_path: Path, weights: ListedFile) -> None:
    write(tmp_path / "a.tar.xz", weights, part_bytes=5000)
    (tmp_path / "a.tar.xz.notes").touch()
    write(tmp_path / "a.tar.xz", weights)
    names = sorted(path.name for path in tmp_path.glob("a.tar*"))
    assert names == ["a.tar.xz", "a.tar.xz.notes", "a.tar.xz.sha256"]


@pytest.mark.parametrize("name", ["a.tar.xz", "a.tar.xz.007", "a.tar.xz.sha256"])
def test_nothing_of_an_earlier_archive_goes_unasked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"{name} exists already; --force replaces it"):
        ArchivePlace.of(tmp_path / "a.tar.xz", force=False)


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("name", ["a.tar.xz", "a.tar.xz.sha256"])
def test_what_comes_meanwhile_stays(
    tmp_path: Path, weights: ListedFile, name: str, force: bool
) -> None:
    directory = tmp_path / "out"
    directory.mkdir()
    place = ArchivePlace.of(directory / "a.tar.xz", force=force)
    (directory / name).write_text("mine")
    with pytest.raises(ConfigError, match="something else has turned up there, and stays"):
        write_archive(place, entries(weights), None, lambda count: None)
    (kept,) = directory.glob("a.tar.xz.finished-*")
    assert sorted(path.name for path in kept.iterdir()) == ["a.tar.xz", "a.tar.xz.sha256"]
    assert sorted(directory.iterdir()) == sorted([directory / name, kept])
    assert (directory / name).read_text() == "mine"


def test_a_linked_archive_is_written_where_the_link_leads(
    tmp_path: Path, weights: ListedFile
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "a.tar.xz").symlink_to("disk/b.tar.xz")
    (archive,) = write(tmp_path / "a.tar.xz", weights)
    assert archive == tmp_path / "disk" / "b.tar.xz"
    assert (tmp_path / "a.tar.xz").is_symlink()


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="output: cannot write"):
        write(tmp_path / "a.tar.xz", ListedFile(tmp_path / "no such file", FileInfo(1, "0" * 64)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["alter", "shorten", "empty"])
def test_a_file_that_is_not_as_listed_leaves_nothing(
    tmp_path: Path, weights: ListedFile, change: str
) -> None:
    content = weights.path.read_bytes()
    altered = {"alter": b"!" + content[1:], "shorten": content[:-1], "empty": b""}
    weights.path.write_bytes(altered[change])
    with pytest.raises(ConfigError, match="weights was changed while it was being packaged"):
        write(tmp_path / "a.tar.xz", weights)
    assert list(tmp_path.iterdir()) == [weights.path]


def test_of_a_file_that_grew_only_what_is_listed_goes_in(
    tmp_path: Path, weights: ListedFile
) -> None:
    content = weights.path.read_bytes()
    weights.path.write_bytes(content + b"more")
    (archive,) = write(tmp_path / "a.tar.xz", weights)
    subprocess.run(["tar", "xf", archive], cwd=tmp_path, check=True)
    assert (tmp_path / "top" / ("d" * 120) / "weights").read_bytes() == content


@pytest.mark.parametrize(
    ("text", "size"), [("50MB", 50_000_000), ("2000", 2000), ("1.5GB", None), ("0", None)]
)
def test_sizes(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(ConfigError, match="split: must be a size"):
            parse_size(text)
    else:
        assert parse_size(text) == size
