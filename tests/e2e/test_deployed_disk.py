"""A server that stays whose disk is full, or can't sync: who asks is told, nothing acknowledged is lost, what ends ends in order."""

import json
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.stays import Stays, python
from tests.conftest import Need, processes_of, wait_for
from tests.e2e.programs import run, write

PROGRAM = """
    import time
    from pathlib import Path

    import greenroom

    app = greenroom.App("shop")

    @app.function(min_containers=1)
    def size(data):
        return len(data)

    @app.cls(max_containers=1)
    class Model:
        @greenroom.method()
        def wait(self):
            Path("MARKS/begun").touch()
            while not Path("MARKS/go").exists():
                time.sleep(0.01)
            return "waited"

        @greenroom.method()
        def get(self):
            return 1

        @greenroom.exit()
        def leave(self):
            Path("MARKS/left").touch()
"""
LARGE = 3_000_000
"""Bytes that no log has room for that is there already."""
SPAWN = f"""
try:
    print(greenroom.Function.from_name("shop", "size").spawn(bytes({LARGE})).object_id)
except greenroom.Error as error:
    print(type(error).__name__, error)
"""


class Failing(NamedTuple):
    stays: Stays
    fail: Callable[[], None]
    mend: Callable[[], None]


@pytest.fixture(params=["full", "no sync"])
def failing(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Iterator[Failing]:
    mark, settings = tmp_path / "fails", {}
    if request.param == "no sync":
        if shutil.which("gcc") is None:
            Need.missing("gcc")
        source = Path(__file__).parents[1] / "server" / "store" / "shim.c"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", tmp_path / "shim.so", source], check=True)
        settings = {"LD_PRELOAD": str(tmp_path / "shim.so"), "FAIL_SYNC": str(mark)}
    else:
        mark = home / "filler"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=32m", "none", home], capture_output=True, text=True
        )
        if mounted.returncode:
            pytest.skip(f"can't mount a small disk here: {mounted.stderr.strip()}")

    def fail() -> None:
        with open(mark, "wb", buffering=0) as file:
            if request.param == "full":
                with pytest.raises(OSError, match="No space left on device"):
                    while True:
                        file.write(b"x" * 512)

    made = Stays(home, tmp_path, "process", **settings)
    yield Failing(made, fail, mark.unlink)
    made.end(signal.SIGKILL)
    if request.param == "full":
        subprocess.run(["umount", "-l", home], check=True)


def is_finished(home: Path, call_id: str) -> bool:
    with sqlite3.connect(f"file:{home}/greenroom.db?mode=ro", uri=True) as connection:
        return bool(connection.execute("SELECT 1 FROM calls WHERE id = ? AND finished_at", (call_id,)).fetchone())


def test_who_asks_is_told_and_what_ends_ends_in_order(failing, home, tmp_path):
    stays = failing.stays
    file = str(write(tmp_path, PROGRAM.replace("MARKS", str(tmp_path)), "shop.py"))
    assert run("deploy", "-q", file).returncode == 0
    assert run("deploy", "-q", "--name", "other", file).returncode == 0
    assert run("call", "other", "Model.get").stdout == "1\n"
    before = python(SPAWN).strip()
    waits = run("call", "shop", "Model.wait", "--spawn").stdout.strip()
    get = "print(greenroom.FunctionCall.from_id({!r}).get(timeout=30))"
    assert python(get.format(before)) == f"{LARGE}\n"
    wait_for((tmp_path / "begun").exists)

    failing.fail()
    assert "ExecutionError the call can't be kept, and doesn't run: " in python(SPAWN)
    refused = run("deploy", file)
    assert (refused.returncode != 0, "Traceback" in refused.stderr) == (True, False), refused.stderr
    assert run("call", "shop", "size", "--json", '["four"]').stdout == "4\n", "what is to be kept nowhere goes on"
    assert python(get.format(before)) == f"{LARGE}\n"
    (tmp_path / "go").touch()
    assert python(get.format(waits)) == "waited\n"
    (record,) = [
        r
        for r in json.loads(run("container", "list", "--json").stdout)
        if (r["app_name"], r["function"]) == ("shop", "Model")
    ]
    assert "has ended" in run("container", "stop", record["id"]).stdout
    assert (tmp_path / "left").exists()
    (tmp_path / "left").unlink()
    stopped = run("app", "stop", "other")
    assert stopped.returncode == 2, stopped
    assert "other stops, but that can't be kept, so it will be back with the next server: " in stopped.stderr
    wait_for((tmp_path / "left").exists)
    assert run("call", "other", "Model.get").returncode == 2

    failing.mend()
    wait_for(lambda: "can be written again" in stays.said())
    after = python(SPAWN).strip()
    assert python(get.format(after)) == f"{LARGE}\n"
    wait_for(lambda: is_finished(home, waits), what="what had ended is kept")
    stays.end(signal.SIGKILL)
    stays.start()
    for call, result in ((before, LARGE), (waits, "waited"), (after, LARGE)):
        assert python(get.format(call)) == f"{result}\n"
    assert [app["name"] for app in stays.apps()] == ["other", "shop"]
    assert run("app", "stop", "other").returncode == 0
    assert stays.end() == 0
    wait_for(lambda: not processes_of(home) and not list((home / "run").iterdir()), what="nothing is left")
