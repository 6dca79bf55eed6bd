"""Copies that are taken while the database is written, and put back."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from greenroom.model.errors import StoreError
from greenroom.server.store import calls as c
from greenroom.server.store import schedules
from greenroom.server.store.backup import REPLACED, back_up, restore
from greenroom.server.store.file import connect
from greenroom.server.store.migrations import VERSION
from tests.server.store.conftest import Store


def add(connection, number: int) -> None:
    row = c.CallRow(f"fc-{number}", "ap-1", "fu-1", "", "", "spawn", 1, 1.0)
    c.add_call(connection, row)
    c.add_inputs(connection, row.id, 0, [b"x" * 5000])


def names(path: Path) -> list[str]:
    store = Store(path)
    found = [row.id for row in store.read(c.unfinished, 0, 10_000)]
    assert store.sql("PRAGMA integrity_check") == [("ok",)]
    store.close()
    return found


def test_a_backup_while_it_is_written_is_of_one_moment(store: Store, tmp_path: Path) -> None:
    for number in range(300):
        store.begin(lambda connection, number=number: add(connection, number))
    store.settle()
    target, home = tmp_path / "copy.db", tmp_path / "home"
    taking = threading.Thread(target=back_up, args=(store.path.parent, target))
    taking.start()
    count = 300
    while taking.is_alive() or count < 320:
        store.write(add, count)
        count += 1
    taking.join()
    assert target.stat().st_mode & 0o777 == 0o600
    store.write(add, count)
    home.mkdir()
    restore(target, home)
    found = names(home / "greenroom.db")
    assert 300 <= len(found) <= count and found == [f"fc-{number}" for number in range(len(found))]
    restored = Store(home / "greenroom.db")
    assert restored.sql("SELECT count(*) FROM inputs") == restored.sql("SELECT count(*) FROM parts") == [(len(found),)]
    restored.close()
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == ["copy.db"]


def test_another_process_may_take_it(store: Store, tmp_path: Path) -> None:
    store.write(add, 1)
    text = "import sys; from pathlib import Path; from greenroom.server.store.backup import back_up; back_up(*map(Path, sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", text, store.path.parent, tmp_path / "copy.db"], check=True)
    store.write(add, 2)
    store.close()
    assert names(tmp_path / "copy.db") == ["fc-1"] and names(store.path) == ["fc-1", "fc-2"]


def test_a_restore_takes_the_place_of_what_is_there_and_keeps_that(path: Path, tmp_path: Path) -> None:
    store = Store(path)
    store.write(add, 1)
    back_up(path.parent, tmp_path / "copy")
    store.write(add, 2)
    with pytest.raises(StoreError, match="in use by a running server: stop that one first"):
        restore(tmp_path / "copy", path.parent)
    store.close()
    for _ in range(2):
        restore(tmp_path / "copy", path.parent)
        assert names(path) == ["fc-1"]
    assert names(path.with_name(path.name + REPLACED)) == ["fc-1"]
    assert not [
        entry for entry in path.parent.iterdir() if ".new-" in entry.name or entry.name.endswith(("-wal", "-shm"))
    ]


def killed_server(path: Path) -> None:
    """Leave a database whose last commit is in its log alone, as a server does that was killed."""
    program = (
        "import os, sys; from pathlib import Path\n"
        "from greenroom.server.store.file import open_database; from tests.server.store.test_backup import add\n"
        "connection = open_database(Path(sys.argv[1])); add(connection, 7); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, path], check=False, cwd=Path(__file__).parents[3])
    assert path.with_name(path.name + "-wal").stat().st_size


def test_a_killed_servers_log_is_not_taken_for_the_backups(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    store = Store(other / "greenroom.db")
    store.write(add, 1)
    back_up(other, tmp_path / "copy")
    store.close()
    killed_server(path)
    restore(tmp_path / "copy", path.parent)
    assert names(path) == ["fc-1"]
    assert names(path.with_name(path.name + REPLACED)) == ["fc-7"]


def test_a_damaged_database_can_be_replaced(path: Path, tmp_path: Path) -> None:
    store = Store(path)
    store.write(add, 1)
    back_up(path.parent, tmp_path / "copy")
    store.close()
    killed_server(path)
    damaged = b"scrap" * 2000
    path.write_bytes(damaged)
    path.with_name(path.name + "-wal").write_bytes(damaged)
    restore(tmp_path / "copy", path.parent)
    assert names(path) == ["fc-1"]
    kept = path.with_name(path.name + REPLACED)
    assert kept.read_bytes() == damaged


def test_what_is_no_sound_backup_is_refused_and_changes_nothing(path: Path, tmp_path: Path) -> None:
    store = Store(path)
    for number in range(200):
        store.write(add, number)
    copy = tmp_path / "copy"
    back_up(path.parent, copy)
    store.close()
    good = copy.read_bytes()

    newer = connect(copy)
    newer.execute(f"PRAGMA user_version = {VERSION + 1}")
    newer.close()
    with pytest.raises(StoreError, match=rf"copy has version {VERSION + 1}, and this Greenroom knows"):
        restore(copy, path.parent)
    for text, why in (
        (good[: len(good) // 2], "can't restore .*copy: .*(malformed|damaged)"),
        (good[:20_000] + os.urandom(40_000) + good[60_000:], "can't restore .*copy: .*(malformed|damaged)"),
        (b"scrap" * 1000, "can't restore .*copy: file is not a database"),
        (b"", "copy is empty"),
    ):
        copy.write_bytes(text)
        with pytest.raises(StoreError, match=why):
            restore(copy, path.parent)
    copy.unlink()
    with pytest.raises(StoreError, match="can't restore .*copy: No such file or directory"):
        restore(copy, path.parent)
    with pytest.raises(StoreError, match="/dev/null is no regular file"):  # others, such as /dev/zero, have no end
        restore(Path("/dev/null"), path.parent)
    assert len(names(path)) == 200
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["greenroom.db", "greenroom.db.lock"]


def test_a_backup_that_can_not_be_made_leaves_the_one_of_before(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.write_text("the one of before")
    with pytest.raises(StoreError, match="there is no .*/nowhere/greenroom.db: `greenroom server` makes it"):
        back_up(tmp_path / "nowhere", target)
    with pytest.raises(StoreError, match="up to .*: No such file or directory"):
        back_up(store.path.parent, tmp_path / "nowhere" / "copy")
    assert target.read_text() == "the one of before"
    store.write(schedules.note_fired, "f", 1.0)
    back_up(store.path.parent, target)
    assert not [entry for entry in tmp_path.iterdir() if ".new-" in entry.name]


def test_a_backup_takes_no_place_but_an_ordinary_files(store: Store, tmp_path: Path) -> None:
    home = store.path.parent
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link, elsewhere = tmp_path / "link", tmp_path / "elsewhere"
    link.symlink_to(store.path)
    for target, why in (
        (store.path, "is a file of the server's own"), (link, "is a file of the server's own"),
        (home / "server.json", "is a file of the server's own"), (pipe, "is no regular file"),
    ):  # fmt: skip
        with pytest.raises(StoreError, match=why):
            back_up(home, target)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert store.write(schedules.note_fired, "later", 2.0) is None
    assert store.read(schedules.last_fired) == {"later": 2.0}, "the server's own is as it was"
    link.unlink()
    link.symlink_to(elsewhere)
    back_up(home, link)
    assert link.is_symlink()
    assert elsewhere.is_file()


def test_a_database_is_no_backup_of_itself(path: Path) -> None:
    store = Store(path)
    store.write(schedules.note_fired, "kept", 1.0)
    store.close()
    with pytest.raises(StoreError, match="is the database that a backup would take the place of"):
        restore(path, path.parent)
    again = Store(path)
    assert again.read(schedules.last_fired) == {"kept": 1.0}
    again.close()
