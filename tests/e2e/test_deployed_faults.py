"""Spawned calls of a deployed app while everything that runs them is killed again and again: none that was acknowledged is lost.

Short in CI; ``make test-faults`` has the numbers of the promise.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.stays import Stays
from tests.conftest import assert_nothing_left, wait_for
from tests.e2e.programs import environment, run, write
from tests.e2e.test_faults import pids_of

LONG = os.environ.get("GREENROOM_TEST_FAULTS") == "long"
CALLS, KILLS, PAUSE, PACE = (10_000, 60, 2.0, 0.005) if LONG else (400, 8, 1.0, 0.01)
ENDS = 5.0
"""Seconds by which a container must have ended after what it ran was begun elsewhere."""
PROGRAM = """
    import os
    import time
    import greenroom

    app = greenroom.App("faults")

    def note(name, *what):
        with open(f"MARKS/{name}", "a") as file:
            print(*what, os.getppid(), time.time(), file=file)

    @app.cls(max_containers=4, timeout=60)
    class Work:
        @greenroom.method()
        def work(self, x):
            try:
                note("ran", x)
                time.sleep(x % 7 / 100)
                return x * 3
            except BaseException:
                note("stopped", x)  # in order: its worker was lost, or its supervisor
                raise

        @greenroom.exit()
        def leave(self):
            note("left")
"""
SPAWNER = f"""
import sys, time
import greenroom

work = greenroom.Cls.from_name("faults", "Work")().work
for x in range({CALLS}):
    while True:
        try:
            print(x, work.spawn(x).object_id, flush=True)
            time.sleep({PACE})
            break
        except greenroom.Error:
            time.sleep(0.05)
"""
COLLECTOR = """
import sys
import greenroom

for line in sys.stdin:
    x, call = line.split()
    try:
        print(x, "is", greenroom.FunctionCall.from_id(call).get(timeout=100), flush=True)
    except greenroom.Error as error:
        print(x, "is", type(error).__name__, flush=True)
"""


class Run(NamedTuple):
    """Of an input."""

    supervisor: int
    at: float


def runs_in(path: Path) -> dict[str, list[Run]]:
    """By input, the earliest first."""
    found: dict[str, list[Run]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        x, supervisor, at = line.split()
        found.setdefault(x, []).append(Run(int(supervisor), float(at)))
    return found


def parent_of(pid: int) -> int:
    """An agent's supervisor."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.timeout(1500 if LONG else 120)
def test_no_acknowledged_call_is_lost(home, tmp_path, request):
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    stays = Stays(home, tmp_path, "process")
    request.addfinalizer(lambda: stays.end(signal.SIGKILL))
    text = PROGRAM.replace("MARKS", str(tmp_path))
    assert run("deploy", str(write(tmp_path, text, "program.py"))).returncode == 0
    killed: dict[str, int] = {}
    gone: dict[int, float] = {}
    """When each container ended, or was told to, by its supervisor."""
    died: dict[int, float] = {}
    """When an agent was killed, by its supervisor."""
    orphaned: dict[int, float] = {}
    """When a supervisor was."""
    workers: list[float] = []
    """When a worker was."""
    with open(tmp_path / "acknowledged", "w") as output:
        spawner = subprocess.Popen([sys.executable, "-c", SPAWNER], stdout=output, env=environment())
        request.addfinalizer(spawner.kill)
        for _ in range(KILLS):
            time.sleep(PAUSE * chance.random())
            victim = chance.choice(["server", "worker", "supervisor", "agent"])
            found = [stays.process.pid] if victim == "server" else pids_of(home, victim)
            if not found:
                continue  # none is there just now
            with suppress(ProcessLookupError, FileNotFoundError):
                pid = chance.choice(found)
                supervisor = pid if victim == "supervisor" else parent_of(pid) if victim == "agent" else 0
                os.kill(pid, signal.SIGKILL)
                if victim == "worker":
                    workers.append(time.time())
                elif supervisor:
                    gone[supervisor] = (died if victim == "agent" else orphaned)[supervisor] = time.time()
            killed[victim] = killed.get(victim, 0) + 1
            if victim == "server":
                stays.process.wait()
                stays.start()
        assert spawner.wait(600) == 0
    acknowledged = (tmp_path / "acknowledged").read_text()
    done = subprocess.run([sys.executable, "-c", COLLECTOR], input=acknowledged, capture_output=True, text=True,
                          env=environment(), timeout=600, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = dict(line.split(" is ") for line in done.stdout.splitlines())
    right = {x for x, result in found.items() if result == str(int(x) * 3)}
    others = {x: result for x, result in found.items() if x not in right}
    for line in (tmp_path / "left").read_text().splitlines() if (tmp_path / "left").exists() else ():
        supervisor, at = line.split()
        gone.setdefault(int(supervisor), float(at))
    runs, stops = runs_in(tmp_path / "ran"), runs_in(tmp_path / "stopped")
    again = [(first, then) for each in runs.values() for first, then in pairwise(each)]
    stopped = {(x, stop.supervisor): stop.at for x, each in stops.items() for stop in each}
    free = [(x, first, stopped.get((x, first.supervisor), 0.0)) for x, each in runs.items() for first in each[:-1]]
    """Runs that another one followed, and when they were stopped, if they were."""
    print(
        f"seed {seed}: {len(found)} calls, killed {killed}; {len(right)} results, {len(others)} errors, "
        f"{sum(map(len, runs.values()))} runs, {len(again)} of them second ones, {len(stopped)} stopped in order"
    )
    # Nothing that a container ran is run again for as long as that container lives.
    assert [(first, then) for first, then in again if gone.get(first.supervisor, inf) > then.at + ENDS] == []
    # What died with its container has cost its only attempt, whoever else had died: it is not run again. Nor is what was broken
    # off since its supervisor had died, unless that may have been since a worker was lost.
    assert [(x, run) for x, run, stop in free if run.supervisor in died and not stop] == []
    assert [
        (x, run)
        for x, run, stop in free
        if run.at < orphaned.get(run.supervisor, inf) < stop and not any(run.at - ENDS < at < stop for at in workers)
    ] == []
    assert set(found) == {str(x) for x in range(CALLS)}
    assert set(others.values()) <= {"ContainerCrashed"}, others
    assert len(others) <= killed.get("agent", 0) + killed.get("supervisor", 0), others
    assert right <= set(runs)
    assert stays.end() == 0
    wait_for(lambda: not list((home / "run").iterdir()), what="all that died is cleared up")
    assert_nothing_left(home)
