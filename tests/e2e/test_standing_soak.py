"""A server that stays, under everything at once: calls, maps, spawned calls, schedules, redeploys. Nothing of it grows.

Short in CI; ``make test-soak`` has the ten minutes of the promise.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.cli.stays import Stays
from tests.conftest import assert_nothing_left, groups_of, wait_for
from tests.e2e.programs import environment, run, write
from tests.e2e.test_faults import pids_of

LONG = os.environ.get("GREENROOM_TEST_SOAK") == "long"
WARM, FULL, REDEPLOY = (180.0, 420.0, 15.0) if LONG else (2.0, 3.0, 1.5)
"""Seconds of load until the first look, from there to the second, and between two redeploys."""
PROGRAM = """
    import greenroom

    app = greenroom.App("soak")
    VERSION = 0


    @app.function(max_containers=3, scaledown_window=2)
    def quick(x):
        return x


    @app.function(schedule=greenroom.Period(seconds=1), scaledown_window=2)
    def tick():
        print("tick", VERSION)


    @app.cls(max_containers=2, scaledown_window=2)
    class Model:
        @greenroom.enter()
        def load(self):
            self.calls = 0

        @greenroom.method()
        def f(self, x):
            self.calls += 1
            return x * 2

        @greenroom.exit()
        def close(self):
            print("served", self.calls)
"""
CLIENT = """
import json, os, sys, time
import greenroom

quick, model = greenroom.Function.from_name("soak", "quick"), greenroom.Cls.from_name("soak", "Model")()
made = {"remote": 0, "mapped": 0, "spawned": 0, "spawned inputs": 0}
for line in sys.stdin:
    end = time.monotonic() + float(line)
    while time.monotonic() < end:
        for x in range(20):
            assert quick.remote(x) == x
            assert model.f.remote(x) == 2 * x
        made["remote"] += 40
        assert list(quick.map(range(300))) == list(range(300))
        made["mapped"] += 300
        calls = [model.f.spawn(x) for x in range(10)]
        assert greenroom.gather(*calls) == [2 * x for x in range(10)]
        many = quick.spawn_map(range(100))
        assert list(many.iter()) == list(range(100))
        made["spawned"] += 11
        made["spawned inputs"] += 110
        big = b"x" * 2_000_000
        assert quick.remote(big) == big
        made["remote"] += 1
        time.sleep(2.2 if made["remote"] % 3 == 0 else 0.0)  # now and then all containers go
    print(json.dumps(made), flush=True)
"""


def taken(pid: int) -> dict[str, int]:
    """What a process has of the machine."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "memory": int(status["VmRSS"].split()[0]),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
        "mounts": len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines()),
        "children": len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()),
    }


class Soak:
    def __init__(self, home: Path, directory: Path, stays: Stays) -> None:
        self.home = home
        self.directory = directory
        self.stays = stays
        self.version = 0
        self.client = subprocess.Popen([sys.executable, "-c", CLIENT], env=environment(), text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip

    def end(self) -> None:
        self.client.kill()
        self.client.communicate()

    def deploy(self) -> None:
        self.version += 1
        text = PROGRAM.replace("VERSION = 0", f"VERSION = {self.version}")
        done = run("deploy", "-q", str(write(self.directory, text, "soak.py")))
        assert done.returncode == 0, done.stderr

    def load(self, seconds: float) -> dict[str, int]:
        """So many seconds of it; what the client has made by then, in all."""
        over = threading.Event()
        failed: list[BaseException] = []

        def redeploy() -> None:
            try:
                while not over.wait(REDEPLOY):
                    self.deploy()
            except BaseException as error:
                failed.append(error)

        deployer = threading.Thread(target=redeploy)
        deployer.start()
        assert self.client.stdin is not None
        assert self.client.stdout is not None
        try:
            self.client.stdin.write(f"{seconds}\n")
            self.client.stdin.flush()
            answer = self.client.stdout.readline()
        finally:
            over.set()
            deployer.join()
        assert not failed, failed
        made: dict[str, int] = json.loads(answer)
        return made

    def look(self) -> dict[str, dict[str, int]]:
        """What all of them have, once the load has gone; what fires every second goes on."""
        (worker,) = pids_of(self.home, "worker")
        wait_for(lambda: {c["function"] for c in self.containers()} <= {"tick"}, what="containers go", timeout=60)
        wait_for(lambda: len(self.groups()) <= 3, what="control groups go", timeout=60)
        wait_for(lambda: self.rows()["inputs"] == 0, what="all that was spawned has ended")
        return {
            "server": taken(self.stays.process.pid),
            "worker": taken(worker),
            "client": taken(self.client.pid),
            "home": {name: sum(len(files) for _, _, files in os.walk(self.home / name)) for name in
                     ("run", "code", "containers", "logs", "app-logs")},
            "groups": {"of containers": len(self.groups())},
            "database": {"kB": sum(file.stat().st_size for file in self.home.glob("greenroom.db*")) // 1024},
            "rows": self.rows(),
        }  # fmt: skip

    def containers(self) -> "list[dict[str, str]]":
        found: list[dict[str, str]] = json.loads(run("container", "list", "--json").stdout)
        return found

    def groups(self) -> set[str]:
        """Of containers: those that run, and one that waits for the next."""
        return {path.name for path in groups_of(self.home)}

    def rows(self) -> dict[str, int]:
        with sqlite3.connect(f"file:{self.home}/greenroom.db?mode=ro", uri=True) as connection:
            return {
                name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
                for name in ("calls", "inputs", "outputs", "versions")
            }


@pytest.mark.timeout(1200 if LONG else 120)
def test_nothing_grows(home, tmp_path, request):
    real = os.geteuid() == 0 and shutil.which("crun") is not None
    stays = Stays(home, tmp_path, "oci" if real else "process")
    request.addfinalizer(stays.end)
    soak = Soak(home, tmp_path, stays)
    request.addfinalizer(soak.end)
    soak.deploy()
    first_made = soak.load(WARM)
    before = soak.look()
    began = time.monotonic()
    made = soak.load(FULL)
    took = time.monotonic() - began
    after = soak.look()
    print(f"{took:.0f} s: {made}, {soak.version} versions\nbefore {before}\nafter  {after}")
    assert made["remote"] > first_made["remote"]
    for process in ("server", "worker", "client"):
        for what in ("descriptors", "threads", "mounts", "children"):
            assert after[process][what] <= before[process][what] + 2, (process, what)
        most = 12 * 1024 if LONG else 24 * 1024
        if process == "server":
            # Two connections keep pages of the database in memory, up to 16 MiB each.
            most += 2 * min(16 * 1024, after["database"]["kB"] - before["database"]["kB"])
        assert after[process]["memory"] < before[process]["memory"] + most, process
    assert after["groups"]["of containers"] <= 3
    assert after["home"]["run"] <= before["home"]["run"] + 2
    assert after["home"]["containers"] <= 550
    assert after["rows"]["inputs"] == 0
    assert after["rows"]["versions"] == min(20, soak.version)
    fired = after["rows"]["calls"] - made["spawned"]
    assert 0 < fired < 5 * (WARM + FULL + 120), "each call of the client's is kept once, and each firing"
    assert after["rows"]["outputs"] == made["spawned inputs"] + fired
    soak.end()
    assert stays.end() == 0
    assert_nothing_left(home)
