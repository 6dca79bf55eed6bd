"""While its containers live, whatever is mapped and spawned runs once each, however often its server dies.

Many inputs, so that most are in the store alone when it does. Short in CI; ``make test-faults`` has the long form.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests.cli.stays import Stays
from tests.e2e.programs import environment, run, write

LONG = os.environ.get("GREENROOM_TEST_FAULTS") == "long"
EACH = 100_000 if LONG else 10_000
SEED = random.randrange(10**6)
PROGRAM = """
    import os

    import greenroom

    app = greenroom.App("many")


    @app.function(min_containers=2, max_containers=2, timeout=3600)
    def echo(x):
        fd = os.open("MARKS", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, b"%d\\n" % x)
        os.close(fd)
        return x
"""
CLIENT = """
import json, sys
import greenroom

each = int(sys.argv[1])
echo = greenroom.Function.from_name("many", "echo")
spawned = [echo.spawn_map(range(k * each, (k + 1) * each)) for k in range(3)]
print("spawned", flush=True)
assert list(echo.map(range(3 * each, 4 * each))) == list(range(3 * each, 4 * each))
for k, call in enumerate(spawned):
    assert list(call.iter()) == list(range(k * each, (k + 1) * each)), k
"""


@pytest.mark.timeout(900 if LONG else 180)
def test_each_input_runs_once(home, tmp_path, request):
    stays = Stays(home, tmp_path, "process")
    request.addfinalizer(stays.end)
    marks = tmp_path / "marks"
    text = PROGRAM.replace("MARKS", str(marks))
    assert run("deploy", "-q", str(write(tmp_path, text, "many.py"))).returncode == 0
    client = subprocess.Popen([sys.executable, "-c", CLIENT, str(EACH)], env=environment(), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert client.stdout is not None
    assert client.stdout.readline() == "spawned\n"
    chance, kills = random.Random(SEED), 0
    while client.poll() is None and (not marks.exists() or marks.stat().st_size < 6 * 4 * EACH * 0.9):
        time.sleep(chance.choice([0.02, 0.2, 0.5, 1.0]))  # anything may be going on then
        stays.process.kill()
        stays.process.wait()
        stays.start()
        kills += 1
    _, error = client.communicate(timeout=600)
    assert client.returncode == 0, f"seed {SEED}: {error}"
    runs = Counter(map(int, marks.read_text().split()))
    print(json.dumps({"seed": SEED, "kills": kills, "inputs": len(runs)}))
    assert kills
    assert sorted(runs) == list(range(4 * EACH)), f"seed {SEED}"
    assert {x: times for x, times in runs.items() if times > 1} == {}, f"seed {SEED}"
