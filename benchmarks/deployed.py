"""A server that stays: durable calls, a deployed function beside an ephemeral one, restarts; prints one JSON object."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
GREENROOM = Path(sys.executable).parent / "greenroom"
APP = str(HERE / "deployed_app.py")


class Stays:
    def __init__(self, home):
        self.home = home
        self.environment = {**os.environ, "GREENROOM_HOME": str(home), "GREENROOM_SANDBOX": "process"}
        self.environment.pop("GREENROOM_SERVER", None)
        self.start()

    def start(self):
        (self.home / "server.json").unlink(missing_ok=True)
        self.process = subprocess.Popen([GREENROOM, "server"], env=self.environment, stderr=subprocess.DEVNULL)
        while not (self.home / "server.json").exists():
            time.sleep(0.005)

    def run(self, *command):
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout


def spawned(count, callers):
    """Acknowledged calls a second, of so many threads that each wait for their own; and all of their ids."""
    import greenroom

    echo = greenroom.Function.from_name("bench-deployed", "echo")
    echo.spawn(0).get()
    ids, each = [], count // callers

    def work():
        ids.extend([echo.spawn(number) for number in range(each)])

    threads = [threading.Thread(target=work) for _ in range(callers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(ids) / (time.perf_counter() - started), ids


def through_many(count, callers):
    """Calls a second, spawned by so many threads, run and collected by them."""
    import greenroom

    echo = greenroom.Function.from_name("bench-deployed", "echo")
    each = count // callers

    def work():
        calls = [echo.spawn(number) for number in range(each)]
        for call in calls:
            call.get()

    threads = [threading.Thread(target=work) for _ in range(callers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return each * callers / (time.perf_counter() - started)


def through_map(count):
    """The same by one `spawn_map`."""
    import greenroom

    echo = greenroom.Function.from_name("bench-deployed", "echo")
    started = time.perf_counter()
    assert sum(1 for _ in echo.spawn_map(range(count)).iter()) == count
    return count / (time.perf_counter() - started)


def warm():
    import greenroom

    echo = greenroom.Function.from_name("bench-deployed", "echo")
    samples = []
    for number in range(3000):
        started = time.perf_counter()
        echo.remote(number)
        samples.append(time.perf_counter() - started)
    return statistics.median(samples[500:])


def after_a_kill(stays):
    """Seconds from SIGKILL of the server until a call is answered by the next."""
    import greenroom

    echo = greenroom.Function.from_name("bench-deployed", "echo")
    stays.process.send_signal(signal.SIGKILL)
    started = time.perf_counter()
    stays.process.wait()
    stays.start()
    while True:
        try:
            echo.remote(1)
        except greenroom.ConnectionError:
            time.sleep(0.01)
        else:
            return time.perf_counter() - started


def main(quick):
    with tempfile.TemporaryDirectory(prefix="gr-") as directory:
        stays = Stays(Path(directory))
        try:
            stays.run(GREENROOM, "deploy", "-q", APP)
            os.environ["GREENROOM_HOME"] = directory
            count = 2_000 if quick else 20_000
            found = {"spawn_rate": statistics.median(spawned(count, 64)[0] for _ in range(3))}
            found["through_many"] = statistics.median(through_many(count // 4, 64) for _ in range(3))
            found["through_map"] = through_map(count * 5)
            warms = [(warm(), float(stays.run(GREENROOM, "run", "-q", "--sandbox", "process", APP))) for _ in range(3)]
            found["warm"], found["warm_ephemeral"] = (statistics.median(side) for side in zip(*warms, strict=True))
            found["restart"] = statistics.median(after_a_kill(stays) for _ in range(3))
        finally:
            stays.process.terminate()
            stays.process.wait()
    print(json.dumps(found))


if __name__ == "__main__":
    main("--quick" in sys.argv)
