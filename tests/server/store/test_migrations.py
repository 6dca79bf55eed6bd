"""Files of every age: of none, of now, of later; and a step that a crash interrupts."""

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from greenroom.model.errors import StoreError
from greenroom.server.store import schedules, versions
from greenroom.server.store.file import connect
from greenroom.server.store.migrations import APPLICATION, MIGRATIONS, VERSION, migrate
from tests.conftest import wait_for
from tests.long_form import LONG
from tests.server.store.conftest import Store

TOP = Path(__file__).parents[3]
FURTHER = tuple(
    f"CREATE TABLE t{n} (a INTEGER PRIMARY KEY, b);"
    f"INSERT INTO t{n} WITH RECURSIVE r (a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM r WHERE a < 20000)"
    f" SELECT a, randomblob(20) FROM r; CREATE INDEX i{n} ON t{n} (b)"
    for n in range(1, 13)
)
PROGRAM = """
import sys
from pathlib import Path
from greenroom.server.store.file import connect
from greenroom.server.store.migrations import MIGRATIONS, migrate
from tests.server.store.test_migrations import FURTHER
migrate(connect(Path(sys.argv[1])), MIGRATIONS + FURTHER)
"""


def test_a_file_that_is_new_has_the_tables_of_now(store: Store) -> None:
    assert store.sql("PRAGMA user_version") == [(VERSION,)]
    assert store.sql("PRAGMA application_id") == [(APPLICATION,)]
    assert store.sql("PRAGMA journal_mode") == [("wal",)]
    (synchronous,) = store.write(lambda connection: connection.execute("PRAGMA synchronous").fetchone())
    (foreign_keys,) = store.write(lambda connection: connection.execute("PRAGMA foreign_keys").fetchone())
    assert (synchronous, foreign_keys) == (2, 1)


def test_a_newer_file_is_refused_and_not_touched(path: Path) -> None:
    Store(path).close()
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 3}")
    before = path.read_bytes()
    text = (
        f"greenroom.db has version {VERSION + 3}, and this Greenroom knows versions up to {VERSION}: install the newer"
    )
    with pytest.raises(StoreError, match=text):
        Store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", [b"Not a database at all.\n" * 400, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused_and_not_touched(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    with pytest.raises(
        StoreError, match=r"greenroom.db is no database \(.*\): restore a backup of it, or move it away"
    ):
        Store(path)
    assert path.read_bytes() == text


def test_another_programs_database_is_refused_and_not_touched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE calls (mine)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"greenroom.db is a database of some other program: move it away"):
        Store(path)
    assert path.read_bytes() == before


def test_a_place_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"^can't use \S+/file/greenroom.db: (Not a directory|File exists)$"):
        Store(tmp_path / "file" / "greenroom.db")
    (tmp_path / "greenroom.db").mkdir()
    with pytest.raises(StoreError, match=r"^can't use \S+/greenroom.db: Is a directory$"):
        Store(tmp_path / "greenroom.db")


def test_a_file_of_the_version_before_detached_apps_goes_on(path: Path) -> None:
    path.touch(0o600)
    with closing(connect(path)) as connection:
        migrate(connection, MIGRATIONS[:2])
        connection.execute(
            "INSERT INTO versions (app, number, app_id, deployed_at, state) VALUES ('shop', 1, 'ap-1', 1.0, 'CURRENT')"
        )
    store = Store(path)
    try:
        store.write(versions.add_detached, "beside", "ap-2", 2.0, [], [])
        assert [(row.app, row.strategy) for row in store.read(versions.all_current)] == [("shop", "rolling")]
        assert [row.app for row in store.read(versions.all_detached)] == ["beside"]
        assert store.sql("PRAGMA user_version") == [(VERSION,)]
    finally:
        store.close()


def test_a_step_that_fails_leaves_no_trace(path: Path) -> None:
    Store(path).close()
    with closing(connect(path)) as connection:
        wrong = (
            "CREATE TABLE one (a)",
            "CREATE TABLE two (a); INSERT INTO two VALUES (1); INSERT INTO nowhere VALUES (1)",
        )
        with pytest.raises(sqlite3.OperationalError, match="no such table: nowhere"):
            migrate(connection, MIGRATIONS + wrong)
        assert not connection.in_transaction
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
        found = connection.execute("SELECT name FROM sqlite_schema WHERE name IN ('one', 'two')").fetchall()
        assert found == [("one",)]
        migrate(connection, (*MIGRATIONS, wrong[0], "CREATE TABLE two (b)"))
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION + 2,)


def kill_when_larger(process: subprocess.Popen[bytes], file: Path, size: int) -> None:
    wait_for(lambda: process.poll() is not None or (file.exists() and file.stat().st_size > size))
    process.kill()
    process.wait()


def test_a_step_that_is_killed_is_there_as_a_whole_or_not_at_all(path: Path) -> None:
    store = Store(path)
    store.write(schedules.note_fired, "kept", 1.0)
    store.close()
    wal = path.with_name("greenroom.db-wal")
    dice = random.Random(5)
    version = VERSION
    for _ in range(60 if LONG else 6):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, path], cwd=TOP)
        kill_when_larger(process, wal, dice.randrange(1_500_000))
        with closing(connect(path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = connection.execute("SELECT name FROM sqlite_schema WHERE name GLOB '[ti][0-9]*'").fetchall()
            assert len(tables) == 2 * (version - VERSION)
            for number in range(1, version - VERSION + 1):
                assert connection.execute(f"SELECT count(*) FROM t{number}").fetchone() == (20000,)
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert schedules.last_fired(connection) == {"kept": 1.0}
    with closing(connect(path)) as connection:
        migrate(connection, MIGRATIONS + FURTHER)
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION + len(FURTHER),)
