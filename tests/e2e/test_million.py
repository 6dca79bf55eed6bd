"""Many inputs of one call: in the store, with a window of them in memory; or streamed, as far ahead as there is room.

Short in CI; ``make test-soak`` has the million of the promise.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from greenroom.server.durable import MOST_COMING
from tests.cli.stays import Stays
from tests.e2e.programs import environment, run, write

LONG = os.environ.get("GREENROOM_TEST_SOAK") == "long"
FEW, MANY = 10_000, 1_000_000 if LONG else 30_000
MOST = 300 * 1024
"""kB that client and server may have, each, with a million inputs."""
BASE = 45 * 1024
"""kB of those for a program that has none."""
PROGRAM = """
    import greenroom

    app = greenroom.App("many")


    @app.function(min_containers=2, max_containers=2, timeout=3600)
    def echo(x):
        return x
"""
CLIENT = """
import json, resource, sys, time
import greenroom

how, count = sys.argv[1], int(sys.argv[2])
echo = greenroom.Function.from_name("many", "echo")
assert [echo.remote(x) for x in range(20)] == list(range(20))
pulled = 0

def numbers():
    global pulled
    for pulled in range(count):
        yield pulled

started, found, ahead = time.perf_counter(), 0, 0
if how == "spawn_map":
    outputs = echo.spawn_map(numbers()).iter()
else:
    outputs = echo.map(numbers())
for x in outputs:
    assert x == found, (x, found)
    found += 1
    ahead = max(ahead, pulled - found)
took = time.perf_counter() - started
assert found == count
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"each": took / count, "client": peak, "ahead": ahead}))
"""


def peak_of(pid: int) -> int:
    """kB that a process has had at the most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.mark.timeout(1200 if LONG else 120)
@pytest.mark.parametrize("how", ["spawn_map", "map"])
def test_client_and_server_have_bounded_memory(home, tmp_path, request, how):
    stays = Stays(home, tmp_path, "process")
    request.addfinalizer(stays.end)
    assert run("deploy", "-q", str(write(tmp_path, PROGRAM, "many.py"))).returncode == 0

    def through(count: int) -> dict[str, float]:
        done = subprocess.run([sys.executable, "-c", CLIENT, how, str(count)], env=environment(), capture_output=True,
                              text=True, timeout=1100, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: dict[str, float] = json.loads(done.stdout)
        return {**found, "server": peak_of(stays.process.pid)}

    few = through(FEW)
    many = through(MANY)
    # How busy the machine is changes: few are measured before and after.
    each = sorted([few["each"], *(through(FEW)["each"] for _ in range(4 if LONG else 0))])
    usual = each[len(each) // 2]
    print(f"{how} of {MANY:,}: {many['each'] * 1e6:.0f} µs each, of {FEW:,} {usual * 1e6:.0f} µs; kB: {few} {many}")
    # Of a spawn_map's inputs so much may wait in the server for its disk, however slow that is.
    waits = {"client": 0, "server": MOST_COMING // 1024 if how == "spawn_map" else 0}
    for who, waiting in waits.items():
        assert many[who] < MOST
        grown, room = many[who] - few[who], (MOST - BASE) * MANY / 1_000_000 + 8 * 1024 + waiting
        assert grown <= room, f"{who}: {grown} kB more for {MANY - FEW} inputs"
        assert how == "spawn_map" or grown <= 8 * 1024, f"{who}: what is streamed leaves nothing behind"
    assert how == "spawn_map" or many["ahead"] <= 8192 + 512, "inputs are pulled as outputs are taken"
    assert not LONG or many["each"] <= 1.5 * usual
