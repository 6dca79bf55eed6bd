"""Greenroom's side: a program that measures itself and prints one JSON object."""

import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path

from benchmarks.subjects import Cold, One, Two, app


def rate(count, work):
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def times(count, work):
    samples = []
    for number in range(count):
        started = time.perf_counter()
        work(number)
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def pss(module):
    """Kilobytes of this user's processes that run a module, shared pages by halves."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if module.encode() in words and os.environ["GREENROOM_HOME"].encode() in b"".join(words):
                text = (entry / "smaps_rollup").read_text()
                total += int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1])
        except OSError:
            continue
    return total


async def burst(count):
    two = Two()
    await asyncio.gather(*[two.echo.remote.aio(number) for number in range(count)])


def main(quick):
    scale = 10 if quick else 1
    found = {}
    with app.run():
        one, two = One(), Two()
        one.echo.remote(0)
        found["server_kb"], found["container_kb"] = pss("greenroom.server"), pss("greenroom.agent")
        times(300, one.echo.remote)
        found["warm"] = times(3000 // scale, one.echo.remote)
        list(two.echo.map(range(1000)))
        found["burst"] = statistics.median(rate(10_000, lambda: asyncio.run(burst(10_000))) for _ in range(3))
        many = 100_000 // scale
        found["map"] = statistics.median(
            rate(many, lambda: sum(1 for _ in two.echo.map(range(many)))) for _ in range(3)
        )
        found["cold"] = times(12 if quick else 25, lambda number: Cold(key=number).echo.remote(1))
        size = (64 if quick else 256) * 1024**2
        data, before = os.urandom(size), pss("greenroom.server")
        trips = [times(1, lambda _: one.echo.remote(data)) for _ in range(5)]
        found["large"] = 2 * size / 1e6 / statistics.median(trips)
        found["server_growth_kb"] = pss("greenroom.server") - before
    print(json.dumps(found))


if __name__ == "__main__":
    main("--quick" in sys.argv)
