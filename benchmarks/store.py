"""Durable commits a second: callers that each wait for their own before the next. `python -m benchmarks.store`

Each commit is what `.spawn()` costs: a call, its idempotency key and one small input, synced before it is acknowledged.
`--directory` says on which disk; one sync of it alone is measured too.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from greenroom.server.store import calls as c
from greenroom.server.store.database import Database

PAYLOAD = b"x" * 100


async def rate(path, callers, seconds):
    loop = asyncio.get_running_loop()
    database = Database(path, loop)
    ended = loop.create_future()
    waits, left = [], callers
    until = time.perf_counter() + seconds

    def spawn(caller, number):
        nonlocal left
        call_id = f"fc-{os.urandom(8).hex()}"
        row = c.CallRow(call_id, "ap-1", "fu-1", "run", "", "spawn", 1, time.time(), idempotency=f"{caller}-{number}")
        begun = time.perf_counter()

        def change(connection):
            c.add_call(connection, row)
            c.add_inputs(connection, call_id, 0, [PAYLOAD])

        def told(done):
            nonlocal left
            done.result()
            now = time.perf_counter()
            waits.append(now - begun)
            if now < until:
                spawn(caller, number + 1)
            else:
                left -= 1
                if not left:
                    ended.set_result(None)

        database.write(change, told)

    began = time.perf_counter()
    for caller in range(callers):
        spawn(caller, 0)
    await ended
    took = time.perf_counter() - began
    closed = loop.create_future()
    commits = database.commits
    database.close(lambda: closed.set_result(None))
    await closed
    waits.sort()
    return {
        "callers": callers,
        "acknowledged_per_s": round(len(waits) / took),
        "acknowledged": len(waits),
        "transactions": commits,
        "median_ms": round(statistics.median(waits) * 1e3, 2),
        "p99_ms": round(waits[int(len(waits) * 0.99)] * 1e3, 2),
    }


def one_sync(directory):
    """Median ms of writing 4 KiB and waiting until the disk has them."""
    samples = []
    with open(directory / "sync", "wb", buffering=0) as file:
        for _ in range(200):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            samples.append(time.perf_counter() - began)
    return round(statistics.median(samples) * 1e3, 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--directory", type=Path, default=None, help="where to put the database")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory) as name:
        found = asyncio.run(rate(Path(name, "greenroom.db"), given.callers, given.seconds))
        found["goal_per_s"] = 5000
        found["one_sync_ms"] = one_sync(Path(name))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
