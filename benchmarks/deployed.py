"""A server that stays: durable calls, a deployed function beside an ephemeral one, restarts; prints one JSON object."""

import asyncio
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

from benchmarks.large_store import fill

HERE = Path(__file__).parent
GREENROOM = Path(sys.executable).parent / "greenroom"
APP = str(HERE / "deployed_app.py")
RAMP = str(HERE / "ramp_app.py")


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


def spawned_by_tasks(count, callers):
    """The same of so many tasks of one event loop."""
    import greenroom

    echo, each = greenroom.Function.from_name("bench-deployed", "echo"), count // callers
    echo.spawn(0).get()

    async def work():
        for number in range(each):
            await echo.spawn.aio(number)

    async def all_of_them():
        await asyncio.gather(*[work() for _ in range(callers)])

    started = time.perf_counter()
    asyncio.run(all_of_them())
    return each * callers / (time.perf_counter() - started)


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
    """Seconds from SIGKILL of the server, while sixteen threads call and spawn and a hundred thousand inputs wait, until a call
    that begins after it is answered by the next."""
    import greenroom

    echo = greenroom.Function.from_name("bench-deployed", "echo")
    answered, spawned, over = [], [], threading.Event()

    def work(call, done):
        while not over.is_set():
            began = time.perf_counter()
            call(1)
            done.append((began, time.perf_counter()))

    each = [(echo.remote, answered)] * 8 + [(echo.spawn, spawned)] * 8
    threads = [threading.Thread(target=work, args=how) for how in each]
    for thread in threads:
        thread.start()
    waiting = echo.spawn_map(range(100_000))
    count = len(answered)
    while len(answered) < count + 500:
        time.sleep(0.01)
    stays.process.send_signal(signal.SIGKILL)
    killed = time.perf_counter()
    stays.process.wait()
    stays.start()
    while not (first := [end for began, end in answered if began > killed]):
        time.sleep(0.005)
    over.set()
    for thread in threads:
        thread.join()
    assert sum(1 for _ in waiting.iter()) == 100_000
    return min(first) - killed


def from_a_large_store(stays):
    """Seconds from the start of a server, whose predecessor ended in order, until it answers a call."""
    stays.process.terminate()
    stays.process.wait()
    return first_call(stays, time.perf_counter())


def first_call(stays, started):
    """Start it, and call; seconds since ``started``."""
    import greenroom

    echo = greenroom.Function.from_name("bench-deployed", "echo")
    stays.start()
    while True:
        try:
            echo.remote(1)
        except greenroom.ConnectionError:
            time.sleep(0.01)
        else:
            return time.perf_counter() - started


def one_start(stays):
    """Seconds of a call that finds no container."""
    import greenroom

    one = greenroom.Function.from_name("bench-ramp", "one")
    while any(c["app_name"] == "bench-ramp" for c in json.loads(stays.run(GREENROOM, "container", "list", "--json"))):
        time.sleep(0.1)
    started = time.perf_counter()
    one.remote(1)
    return time.perf_counter() - started


def to_fifty():
    """Seconds from fifty calls of 5 s each, onto no container, until the last of them begins in one of its own."""
    import greenroom

    five = greenroom.Function.from_name("bench-ramp", "five")
    started = time.time()
    return max(greenroom.gather(*[five.spawn(number) for number in range(50)])) - started


def main(quick):
    with tempfile.TemporaryDirectory(prefix="gr-") as directory:
        stays = Stays(Path(directory))
        try:
            stays.run(GREENROOM, "deploy", "-q", APP)
            os.environ["GREENROOM_HOME"] = directory
            count = 2_000 if quick else 20_000
            found = {"spawn_rate": statistics.median(spawned(count, 64)[0] for _ in range(3))}
            found["spawn_rate_of_tasks"] = statistics.median(spawned_by_tasks(count, 64) for _ in range(3))
            found["through_many"] = statistics.median(through_many(count // 4, 64) for _ in range(3))
            found["through_map"] = through_map(count * 5)
            warms = [
                (warm(), float(stays.run(GREENROOM, "run", "-q", "--sandbox", "process", APP)))
                for _ in range(3 if quick else 11)
            ]
            found["warm"], found["warm_ephemeral"] = (statistics.median(side) for side in zip(*warms, strict=True))
            found["restart"] = statistics.median(after_a_kill(stays) for _ in range(3))
            stays.run(GREENROOM, "deploy", "-q", RAMP)
            found["one_start"] = statistics.median(one_start(stays) for _ in range(5))
            found["to_fifty"], found["cores"] = to_fifty(), len(os.sched_getaffinity(0))
            stays.run(GREENROOM, "app", "stop", "bench-ramp")
            stays.process.terminate()
            stays.process.wait()
            fill(Path(directory), "bench-deployed")
            stays.start()
            found["large_store"] = statistics.median(from_a_large_store(stays) for _ in range(3))
        finally:
            stays.process.terminate()
            stays.process.wait()
    print(json.dumps(found))


if __name__ == "__main__":
    main("--quick" in sys.argv)
