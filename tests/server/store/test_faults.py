"""Disks that are full or can't sync, and SIGKILL: what was acknowledged is there, what was refused was told."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.model.errors import StoreError
from greenroom.server.store import calls as c
from greenroom.server.store import schedules
from tests.conftest import Need
from tests.long_form import LONG
from tests.server.store.conftest import Store
from tests.server.store.writer import CALLERS, INPUTS

TOP = Path(__file__).parents[3]


class Writers:
    """``writer.py``, and what it says."""

    def __init__(self, path: Path, name: str = "w", **environment: str) -> None:
        command = [sys.executable, "-m", "tests.server.store.writer", str(path), name]
        around = {**os.environ, **environment}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=around, cwd=TOP)
        self.lines: list[list[str]] = []

    def until(self, pattern: str, count: int = 1) -> list[list[str]]:
        """Lines up to the one that is the ``count``-th to match."""
        assert self.process.stdout is not None
        start = len(self.lines)
        while count:
            line = self.process.stdout.readline().decode()
            assert line, "it has ended"
            self.lines.append(line.split(maxsplit=2))
            count -= bool(re.match(pattern, line))
        return self.lines[start:]

    def kill(self) -> None:
        """SIGKILL; every line that it has written whole counts."""
        self.process.kill()
        assert self.process.stdout is not None
        if self.process.stdout.closed:
            return
        rest = self.process.stdout.read().decode()
        self.lines += [line.split(maxsplit=2) for line in rest[: rest.rfind("\n") + 1].splitlines()]
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def told(self, what: str) -> list[str]:
        return [line[1] for line in self.lines if line[0] == what]


def check(path: Path, writers: Writers) -> None:
    """Everything that was acknowledged is there, and what is there is whole."""
    store = Store(path)
    assert writers.told("call")
    for call_id in writers.told("call"):
        row, progress = store.read(c.find, call_id), store.read(c.progress_of, call_id)
        assert row is not None and progress.waiting + progress.ended == len(INPUTS)
    for call_id in writers.told("output"):
        assert store.read(c.outputs_of, call_id) == [c.OutputRow(call_id, 1, "ok", "", INPUTS[1])]
        assert store.read(c.inputs_of, call_id) == [c.InputRow(call_id, 0, 0, 0, "", INPUTS[0])]
    calls, inputs, outputs, parts = store.sql(
        "SELECT (SELECT count(*) FROM calls), (SELECT count(*) FROM inputs), (SELECT count(*) FROM outputs),"
        " (SELECT count(*) FROM parts)"
    )[0]
    assert inputs + outputs == 2 * calls and parts == calls
    assert store.sql("PRAGMA integrity_check") == [("ok",)] and store.sql("PRAGMA foreign_key_check") == []
    store.close()


def test_killed_at_any_moment(path: Path) -> None:
    dice = random.Random(11)
    for number in range(40 if LONG else 6):
        with Writers(path, f"w{number}") as writers:
            writers.until("call|output", dice.randrange(1, 3000 if LONG else 600))
        check(path, writers)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        Need.missing("gcc")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-O1", "-o", library, source], check=True)
    return library


@pytest.mark.parametrize("variable", ["FAIL_SYNC", "FAIL_SPACE"])
@pytest.mark.parametrize("killed", ["while it fails", "after it works again"])
def test_a_disk_that_fails(path: Path, tmp_path: Path, shim: Path, variable: str, killed: str) -> None:
    failing = tmp_path / "failing"
    with Writers(path, LD_PRELOAD=str(shim), **{variable: str(failing)}) as writers:
        for _ in range(3 if LONG else 1):
            writers.until("output", 500)
            failing.touch()
            writers.until("said .* can't be written: ")
            refused = writers.until("refused", 3 * CALLERS)
            assert {line[0] for line in refused} == {"refused"}, "nothing is acknowledged while it fails"
            assert all(
                re.match(r"(call|output) StoreError: \S+/greenroom.db can't be written: \S", why)
                for _, _, why in refused
            )
            if killed == "while it fails":
                break
            failing.unlink()
            writers.until("said .* can be written again")
            writers.until("output", 500)
    check(path, writers)
    if killed == "after it works again":
        store = Store(path)
        for call_id, what in [line[1:] for line in writers.lines if line[0] == "refused"]:
            assert not store.read(c.find if what.startswith("call") else c.outputs_of, call_id), "it was refused"
        store.close()


@pytest.fixture
def disk(home: Path) -> Iterator[Path]:
    """A state directory on a file system of 2 MiB."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", home], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"can't mount a small disk here: {mounted.stderr.strip()}")
    yield home
    subprocess.run(["umount", "-l", home], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file, pytest.raises(OSError, match="No space left on device"):
        while True:
            file.write(b"x" * 512)
    return filler


def test_a_disk_that_is_full(disk: Path) -> None:
    store = Store(disk / "greenroom.db")

    def fired(name: str, bulk: int = 0):
        def change(connection):
            schedules.note_fired(connection, name, 1.0)
            connection.execute(
                "INSERT INTO parts SELECT coalesce(max(payload), 0) + 1, 0, zeroblob(?) FROM parts", (bulk,)
            )

        return change

    store.write(fired("before"))
    filler = fill(disk)
    kept, refused = {"before"}, set()
    for number in range(20):
        try:
            store.wait(store.begin(fired(f"f-{number}", 100_000)))
            kept.add(f"f-{number}")
        except StoreError as error:
            assert re.fullmatch(r"\S+/greenroom.db can't be written: database or disk is full", str(error))
            refused.add(f"f-{number}")
    assert refused and len(store.said) == 1
    assert set(store.read(schedules.last_fired)) == kept, "reading goes on"
    filler.unlink()
    store.until(lambda: not store.database.problem)
    store.write(fired("after", 100_000))
    assert set(store.read(schedules.last_fired)) == kept | {"after"}
    store.close()
    again = Store(disk / "greenroom.db")
    assert set(again.read(schedules.last_fired)) == kept | {"after"}
    again.close()


def test_a_server_that_ends_or_begins_on_a_full_disk(disk: Path) -> None:
    store = Store(disk / "greenroom.db")
    store.write(schedules.note_fired, "kept", 1.0)
    filler = fill(disk)
    with pytest.raises(StoreError):
        store.write(lambda connection: connection.execute("INSERT INTO parts VALUES (1, 0, zeroblob(3000000))"))
    store.close()
    fill(disk)
    again = Store(disk / "greenroom.db")
    assert again.read(schedules.last_fired) == {"kept": 1.0}
    again.close()
    fill(disk)
    with pytest.raises(StoreError, match=r"^can't use \S+/new/greenroom.db: \w"):
        Store(disk / "new" / "greenroom.db")
    filler.unlink()
    again = Store(disk / "greenroom.db")
    assert again.write(schedules.note_fired, "later", 2.0) is None
    assert again.read(schedules.last_fired) == {"kept": 1.0, "later": 2.0}
    again.close()
