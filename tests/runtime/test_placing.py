"""Putting finished work in its place: nothing else is ever lost there."""

import os
from pathlib import Path

import pytest

from foggen_runtime.errors import ConfigError
from foggen_runtime.placing import Kind, Place, put_all

BOX = Kind("box", lambda path: {"lid", "inside"} if (path / "lid").exists() else None)


def box(path: Path, content: str = "old") -> Path:
    (path / "inside").mkdir(parents=True)
    (path / "lid").write_text(content)
    (path / "inside" / "deep").write_text(content)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return box(tmp_path / ".new", "new")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def kept_in(target: Path) -> Path:
    (kept,) = target.parent.glob(f"{target.name}.finished-*")
    return kept


def test_an_empty_or_new_place_is_taken(target: Path, new: Path) -> None:
    target.mkdir()
    Place.directory(target, BOX, force=False).put(new)
    assert (target / "lid").read_text() == "new"
    assert names(target.parent) == ["target"]


def test_a_directory_is_replaced_by_force_alone(target: Path, new: Path) -> None:
    box(target)
    with pytest.raises(ConfigError, match="target is a box already; --force replaces it"):
        Place.directory(target, BOX, force=False)
    Place.directory(target, BOX, force=True).put(new)
    assert (target / "lid").read_text() == "new"
    assert names(target.parent) == ["target"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("what", ["file", "directory", "box", "link"])
def test_what_comes_meanwhile_stays(target: Path, new: Path, what: str, force: bool) -> None:
    place = Place.directory(target, BOX, force=force)
    if what == "file":
        target.write_text("years of work")
    elif what == "link":
        target.symlink_to("elsewhere")
    else:
        box(target, "years of work")
        (target / ("lid" if what == "directory" else "inside/deep")).unlink()
    before = target.lstat()
    with pytest.raises(ConfigError, match="something else has turned up there, and stays") as e:
        place.put(new)
    assert target.lstat() == before
    kept = kept_in(target)
    assert str(kept) in str(e.value)
    assert (kept / "target" / "lid").read_text() == "new"
    assert names(target.parent) == sorted(["target", kept.name])


def test_only_the_directory_that_was_found_is_replaced(target: Path, new: Path) -> None:
    box(target)
    place = Place.directory(target, BOX, force=True)
    target.rename(target.with_name("elsewhere"))
    box(target, "another")
    with pytest.raises(ConfigError, match="something else has turned up there"):
        place.put(new)
    assert (target / "lid").read_text() == "another"
    assert names(target.parent) == ["elsewhere", "target", kept_in(target).name]


def test_what_was_found_may_go_meanwhile(target: Path, new: Path) -> None:
    box(target)
    place = Place.directory(target, BOX, force=True)
    target.rename(target.with_name("elsewhere"))
    place.put(new)
    assert names(target.parent) == ["elsewhere", "target"]


@pytest.mark.parametrize("stranger", ["thesis.txt", "notes/thesis.txt", "link"])
def test_what_is_no_part_of_a_directory_is_not_lost_with_it(
    target: Path, new: Path, stranger: str
) -> None:
    box(target)
    place = Place.directory(target, BOX, force=True)
    path = target / stranger
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("..") if stranger == "link" else path.write_text("years of work")
    with pytest.raises(ConfigError, match=f"target holds {stranger}, which is not part of the box"):
        Place.directory(target, BOX, force=True)
    with pytest.raises(ConfigError, match="something else has turned up there"):
        place.put(new)
    assert os.path.lexists(path)
    assert (target / "lid").read_text() == "old"


@pytest.mark.parametrize("force", [False, True])
def test_something_else_is_refused_at_once(target: Path, force: bool) -> None:
    target.mkdir()
    (target / "thesis.txt").touch()
    with pytest.raises(
        ConfigError, match="target is not empty and is not a box; choose another name"
    ):
        Place.directory(target, BOX, force=force)
    with pytest.raises(ConfigError, match=r"must be a directory, .*thesis\.txt is a file"):
        Place.directory(target / "thesis.txt", BOX, force=force)
    for unnamed in (Path(), target / ".."):
        with pytest.raises(ConfigError, match="must end in the name of the new box"):
            Place.directory(unnamed, BOX, force=force)


def test_a_mount_point_is_refused_at_once(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: path == target)
    with pytest.raises(ConfigError, match=r"a directory in it, e\.g\. .*target/box"):
        Place.directory(target, BOX, force=False)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_is_followed(target: Path, new: Path, there: bool) -> None:
    disk = target.with_name("disk")
    if there:
        disk.mkdir()
    target.symlink_to("disk")
    Place.directory(target, BOX, force=False).put(new)
    assert target.readlink() == Path("disk")
    assert (disk / "lid").read_text() == "new"


def test_a_place_that_cannot_be_written_keeps_the_work(
    target: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box(target)
    place = Place.directory(target, BOX, force=True)
    rename = Path.rename

    def refusing(self: Path, other: Path) -> Path:
        if other == target and self == new:
            raise PermissionError(1, "Operation not permitted")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(ConfigError, match="Operation not permitted; what was finished is kept in"):
        place.put(new)
    assert (target / "lid").read_text() == "old"
    assert (kept_in(target) / "target" / "lid").read_text() == "new"
    assert names(target.parent) == ["target", kept_in(target).name]


def test_several_files_are_put_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "stale").write_text("old")
    places = [Place.file(tmp_path / name, force=True) for name in ("a", "b", "stale")]
    (tmp_path / "b").write_text("meanwhile")
    work = tmp_path / ".work"
    work.mkdir()
    for name in ("a", "b"):
        (work / name).write_text("new")
    moves = [(places[0], work / "a"), (places[1], work / "b"), (places[2], None)]
    with pytest.raises(ConfigError, match="something else has turned up there"):
        put_all(moves)
    (kept,) = tmp_path.glob("a.finished-*")
    assert [(kept / name).read_text() for name in "ab"] == ["new", "new"]
    assert [(tmp_path / name).read_text() for name in ("a", "b", "stale")] == [
        "old",
        "meanwhile",
        "old",
    ]
    (tmp_path / "b").unlink()
    moves = [(place, new and kept / new.name) for place, new in moves]
    put_all(moves)
    assert [(tmp_path / name).read_text() for name in "ab"] == ["new", "new"]
    assert names(tmp_path) == sorted([".work", "a", "b", kept.name])


def test_a_file_that_was_changed_meanwhile_stays(tmp_path: Path) -> None:
    report, new = tmp_path / "report.md", tmp_path / "new"
    report.write_text("old")
    with pytest.raises(ConfigError, match=r"report: .*report\.md exists already; --force"):
        Place.file(report, force=False, option="report")
    place = Place.file(report, force=True, option="report")
    report.write_text("old, and my notes")
    new.write_text("new")
    with pytest.raises(ConfigError, match="report: cannot be put at"):
        place.put(new)
    assert report.read_text() == "old, and my notes"


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"output: must be a file, .* is not"):
        Place.file(tmp_path, force=True)
