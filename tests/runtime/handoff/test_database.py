import sqlite3
import stat
from pathlib import Path

import pytest

from foggen_runtime.errors import StateError
from foggen_runtime.handoff.database import Database, Layout

LAYOUT = Layout(0x1234, 1, "CREATE TABLE notes (text TEXT NOT NULL)")


def add(database: Database, text: str | None) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO notes VALUES (?)", (text,))


def add_then_fail(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute("INSERT INTO notes VALUES ('undone')")
        raise LookupError


def fill(database: Database, written: list[int]) -> None:
    for number in range(100):
        add(database, "x" * 1000)
        written.append(number)


def notes(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [text for (text,) in connection.execute("SELECT text FROM notes")]
    finally:
        connection.close()


def test_what_is_committed_is_synced_to_the_disk(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", LAYOUT)
    with database.transaction() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    database.close()


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", LAYOUT)
    add(database, "secret")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    database.close()
    assert modes == {0o600}


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    """E.g. out of a backup, or left by a crash: with its logs beside it."""
    running = Database(tmp_path / "db", LAYOUT)
    add(running, "secret")
    assert len(list(tmp_path.iterdir())) == 3
    for path in tmp_path.iterdir():
        path.chmod(0o644)
    database = Database(tmp_path / "db", LAYOUT)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    add(running, "still open")
    database.close()
    running.close()
    assert notes(tmp_path / "db") == ["secret", "still open"]


def test_a_file_of_another_kind_is_left_as_it_is(tmp_path: Path) -> None:
    Database(tmp_path / "db", LAYOUT).close()
    (tmp_path / "db").chmod(0o644)
    with pytest.raises(StateError, match="a file of another kind"):
        Database(tmp_path / "db", Layout(0x4321, 1, LAYOUT.script))
    assert stat.S_IMODE((tmp_path / "db").stat().st_mode) == 0o644


def test_what_belongs_to_another_user_and_can_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Database(tmp_path / "db", LAYOUT).close()
    (tmp_path / "db").chmod(0o644)

    def chmod(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "chmod", chmod)
    with pytest.raises(StateError, match="must be readable by its owner only"):
        Database(tmp_path / "db", LAYOUT)


def test_an_error_undoes_the_transaction(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", LAYOUT)
    add(database, "kept")
    with pytest.raises(LookupError):
        add_then_fail(database)
    add(database, "kept too")
    database.close()
    assert notes(tmp_path / "db") == ["kept", "kept too"]


def test_what_sqlite_refuses_names_the_file(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", LAYOUT)
    with pytest.raises(StateError, match=r"db: NOT NULL constraint failed"):
        add(database, None)
    database.close()


def test_a_full_file_is_a_clear_error_and_loses_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", LAYOUT)
    with database.transaction() as connection:
        connection.execute("PRAGMA max_page_count = 10")
    written: list[int] = []
    with pytest.raises(StateError, match=r"db: database or disk is full"):
        fill(database, written)
    assert written
    database.close()
    assert len(notes(tmp_path / "db")) == len(written)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    Database(tmp_path / "db", LAYOUT).close()
    with pytest.raises(StateError, match=r"application_id must be 0x99, is 0x1234"):
        Database(tmp_path / "db", Layout(0x99, 1, LAYOUT.script))
    with pytest.raises(StateError, match=r"version must be 2, is 1"):
        Database(tmp_path / "db", Layout(0x1234, 2, LAYOUT.script))


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("not a database, but long enough to look like one" * 100)
    with pytest.raises(StateError, match="file is not a database"):
        Database(tmp_path / "db", LAYOUT)
    with pytest.raises(StateError, match=r"cannot be opened: .*No such file"):
        Database(tmp_path / "missing" / "db", LAYOUT)
