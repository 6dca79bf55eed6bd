"""The threads that write and read: one commit for all who wait, each told once, failures where they belong."""

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from greenroom.model.errors import StoreError
from greenroom.server.store import schedules
from greenroom.server.store.database import Database
from tests.server.store.conftest import Store


def put(name: str, at: float = 1.0):
    return lambda connection: schedules.note_fired(connection, name, at)


def names(store: Store) -> list[str]:
    return sorted(store.read(schedules.last_fired))


def test_all_that_waits_is_one_commit_and_is_told_in_order_and_at_once(store: Store) -> None:
    store.write(schedules.note_fired, "first", 1.0)
    commits, told = store.database.commits, []
    with store.held():
        for number in range(100):

            def then(done, number=number):
                told.append((number, done.result()))
                store.loop.call_soon(told.append, "the loop's next turn")

            store.begin(lambda connection, number=number: put(f"f-{number}")(connection) or number, then)
        assert store.database.pending == 101 and told == []
    store.settle()
    store.until(lambda: len(told) == 200)
    assert told[:100] == [(number, number) for number in range(100)]
    assert store.database.commits == commits + 2, "the one that was held, and one of all the others"
    assert len(names(store)) == 101


def test_nobody_is_told_before_the_commit(store: Store) -> None:
    seen = []
    with store.held():
        for name in "abc":
            store.begin(put(name), lambda done: seen.append(committed(store.path)))
    store.settle()
    assert seen == [["a", "b", "c"]] * 3


def committed(path: Path) -> list[str]:
    other = sqlite3.connect(path)
    try:
        return [name for (name,) in other.execute("SELECT function_id FROM schedules ORDER BY 1")]
    finally:
        other.close()


def test_a_change_that_raises_is_undone_alone(store: Store) -> None:
    def fails(connection):
        put("half")(connection)
        raise ValueError("no")

    def breaks_a_rule(connection):
        put("half")(connection)
        connection.execute("INSERT INTO inputs VALUES (77, 0, 0, 0, '', x'', NULL)")

    def misspells(connection):
        put("half")(connection)
        connection.execute("SELEKT")

    def miscounts(connection):
        put("half")(connection)
        connection.execute("SELECT ?", ())

    wrong = {ValueError: fails, sqlite3.IntegrityError: breaks_a_rule}
    wrong |= {sqlite3.OperationalError: misspells, sqlite3.ProgrammingError: miscounts}
    with store.held():
        before = store.begin(put("before"))
        failed = {kind: store.begin(change) for kind, change in wrong.items()}
        after = store.begin(put("after"))
    store.wait(before), store.wait(after)
    for kind, ended in failed.items():
        with pytest.raises(kind):
            store.wait(ended)
    assert names(store) == ["after", "before"]
    assert store.said == [] and store.database.problem == ""


def test_where_one_change_costs_the_transaction_nobody_is_told_that_it_stands(store: Store) -> None:
    def undoes_all(connection):
        connection.execute("INSERT OR ROLLBACK INTO schedules VALUES ('kept', 2)")

    store.write(schedules.note_fired, "kept", 1.0)
    with store.held():
        all_of_it = [store.begin(change) for change in (put("before"), undoes_all, put("after"))]
    for ended in all_of_it:
        with pytest.raises(StoreError, match=r"greenroom.db can't be written: "):
            store.wait(ended)
    store.until(lambda: not store.database.problem)
    store.write(schedules.note_fired, "later", 1.0)
    assert names(store) == ["kept", "later"]
    assert ["can't be written" in said for said in store.said] == [True, False]


def test_a_file_that_may_not_grow_is_told_to_all_and_tried_again(store: Store) -> None:
    def stop_growing(connection):
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def too_much(connection):
        connection.execute("INSERT INTO parts VALUES (1, 0, zeroblob(100000))")

    store.write(stop_growing)
    with store.held():
        all_of_it = [store.begin(change) for change in (put("a"), too_much, put("b"))]
    for ended in all_of_it:
        with pytest.raises(StoreError, match=r"^\S+/greenroom.db can't be written: database or disk is full$"):
            store.wait(ended)
    assert names(store) == [] and store.database.pending == 0
    store.until(lambda: not store.database.problem)  # the limit was the connection's: the next one has none
    store.write(too_much)
    assert store.said == [
        f"{store.path} can't be written: database or disk is full; what must be kept is refused until it can",
        f"{store.path} can be written again",
    ]


def test_nothing_is_committed_to_a_file_that_was_moved_away(store: Store) -> None:
    store.write(schedules.note_fired, "before", 1.0)
    elsewhere = store.path.with_name("elsewhere")
    store.path.rename(elsewhere)
    for another in (False, True):
        if another:
            store.path.touch()
        with pytest.raises(
            StoreError, match="can't be written: it was moved or removed while the server runs: put it back"
        ):
            store.write(schedules.note_fired, "meanwhile", 1.0)
        assert names(store) == ["before"]
    elsewhere.rename(store.path)
    store.until(lambda: not store.database.problem)
    store.write(schedules.note_fired, "after", 1.0)
    assert names(store) == ["after", "before"]
    assert ["can't be written" in said for said in store.said] == [True, False]


def test_who_is_told_and_raises_keeps_it_from_nobody(store: Store) -> None:
    told = []

    def then(done):
        told.append(1)
        raise KeyError("mine")

    with store.held():
        for name in "abc":
            store.begin(put(name), then)
    store.settle()
    assert told == [1, 1, 1] and names(store) == ["a", "b", "c"]
    assert [repr(context["exception"]) for context in store.raised] == ["KeyError('mine')"] * 3
    store.raised.clear()


def test_a_long_query_holds_up_no_commit_and_sees_one_moment(store: Store) -> None:
    asked, go, found = threading.Event(), threading.Event(), []

    def long_query(connection):
        before = schedules.last_fired(connection)
        asked.set()
        assert go.wait(60)
        return before, schedules.last_fired(connection)

    store.write(schedules.note_fired, "a", 1.0)
    store.database.read(long_query, lambda done: found.append(done.result()))
    assert asked.wait(60)
    for name in "bcd":
        store.write(schedules.note_fired, name, 1.0)
    assert found == []
    go.set()
    store.settle()
    assert found == [({"a": 1.0}, {"a": 1.0})]
    assert names(store) == ["a", "b", "c", "d"]


def test_a_query_changes_nothing_and_its_errors_are_told(store: Store) -> None:
    with pytest.raises(StoreError, match="can't be read: attempt to write a readonly database"):
        store.read(schedules.note_fired, "a", 1.0)
    with pytest.raises(KeyError):
        store.read(lambda connection: {}["missing"])
    assert names(store) == []


def test_closing_ends_what_waits_and_takes_no_more(path: Path) -> None:
    store = Store(path)
    with store.held():
        waiting = [store.begin(put(f"f-{number}")) for number in range(50)]
        closed = []
        store.database.close(lambda: closed.append([ended.done() for ended in waiting]))
        refused = store.begin(put("late"))
    store.until(lambda: closed)
    assert closed == [[True] * 50]
    with pytest.raises(StoreError, match="the store is closed"):
        store.wait(refused)
    store.loop.close()
    assert sorted(p.name for p in path.parent.iterdir()) == ["greenroom.db", "greenroom.db.lock"]
    again = Store(path)
    assert len(names(again)) == 50
    again.close()


def test_one_server_has_a_database(store: Store) -> None:
    with pytest.raises(StoreError, match=r"greenroom.db is in use by a running server: stop that one first"):
        Database(store.path, store.loop)
    store.close()
    Store(store.path).close()


def test_others_on_this_machine_may_not_read_it(store: Store) -> None:
    store.write(schedules.note_fired, "a", 1.0)
    files = sorted(store.path.parent.iterdir())
    assert [file.name[12:] for file in files] == ["", "-shm", "-wal", ".lock"]
    assert {os.stat(file).st_mode & 0o777 for file in files} == {0o600}


def test_a_server_that_keeps_nothing_loads_no_sql() -> None:
    program = "import sys, greenroom.server.core; print('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
