"""Greenroom's side: a program that measures itself and prints one JSON object."""

import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path

from benchmarks.subjects import MANY, Cold, One, Two, app, many
from greenroom.cli.servers import Answering
from greenroom.sdk.address import address
from greenroom.wire.messages import StopContainer


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


def pss(pid):
    """Kilobytes of a process and of all below it, shared pages by halves."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    own = int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1])
    return own + sum(map(pss, below))


def server():
    return Answering(address().path, address().token)


def server_pss():
    """The server alone, without the worker that it has started."""
    _, _, run = address().path.rpartition("/run/")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"greenroom.server" in words and run.partition("/")[0].encode() in b"".join(words):
            text = (entry / "smaps_rollup").read_text()
            return int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1])
    raise LookupError("no server runs")


def ends(one, count):
    """Seconds from the word to stop an idle container until it has gone and all it had is given back."""
    samples = []
    for _ in range(count):
        one.echo.remote(0)
        (record,) = server().containers()
        started = time.perf_counter()
        server().ask(StopContainer(1, record["id"]), None)
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def many_at_once(count):
    """Seconds until so many containers, asked for at once, are ready."""
    started = time.perf_counter()
    with many.run():
        while sum(record["state"] == "IDLE" for record in server().containers()) < count:
            time.sleep(0.01)
        return time.perf_counter() - started


async def burst(count):
    two = Two()
    await asyncio.gather(*[two.echo.remote.aio(number) for number in range(count)])


def main(quick):
    scale = 10 if quick else 1
    found = {}
    with app.run():
        one, two = One(), Two()
        one.echo.remote(0)
        found["server_kb"], found["container_kb"] = server_pss(), pss(server().containers()[0]["pid"])
        found["end"] = ends(one, 3 if quick else 9)
        one.echo.remote(0)
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
        data, before = os.urandom(size), server_pss()
        trips = [times(1, lambda _: one.echo.remote(data)) for _ in range(5)]
        found["large"] = 2 * size / 1e6 / statistics.median(trips)
        found["server_growth_kb"] = server_pss() - before
    found["many"] = many_at_once(MANY)
    print(json.dumps(found))


if __name__ == "__main__":
    main("--quick" in sys.argv)
