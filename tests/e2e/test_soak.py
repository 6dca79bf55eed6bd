"""Many containers: at once, and one after another. Short in CI; ``make test-soak`` has the numbers of the promise."""

import os
import statistics
import time
from pathlib import Path

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.testing import Cluster
from tests.conftest import Need, assert_nothing_left, groups_of

LONG = os.environ.get("GREENROOM_TEST_SOAK") == "long"


@pytest.fixture
def cluster():
    Need.runtime("crun")
    with Cluster(settings=Settings(sandbox="oci", max_containers=400)) as made:
        yield made
        home = made.home
    assert_nothing_left(home)


def worker_of(cluster) -> int:
    return cluster.on_server(lambda server: server.worker_process.pid)


def taken(pid: int) -> dict[str, int]:
    """What a process has of the machine: memory in kB, descriptors, mounts, children."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "memory": int(status["VmRSS"].split()[0]),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "mounts": len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines()),
        "children": len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()),
    }


@pytest.mark.timeout(600)
def test_many_alive_at_once(cluster):
    count = 200 if LONG else 20
    app = greenroom.App("many")

    @app.cls(serialized=True, min_containers=count)
    class One:
        @greenroom.method()
        def where(self):
            return os.environ["GREENROOM_CONTAINER_ID"]

    with app.run():
        cluster.wait_until(lambda: sum(c["state"] == "IDLE" for c in cluster.containers()) >= count, 300)
        assert One().where.remote() in {c["id"] for c in cluster.containers()}
        # One more group than containers: that which the next one will have.
        assert sum(len([d for d in group.iterdir() if d.is_dir()]) for group in groups_of(cluster.home)) >= count
    assert not cluster.containers()


@pytest.mark.timeout(900)
def test_many_one_after_another(cluster):
    count = 1000 if LONG else 20
    app = greenroom.App("in-a-row")

    @app.function(serialized=True, single_use_containers=True, max_containers=1)
    def f(x):
        return x

    seconds: list[float] = []

    def some(number: int) -> None:
        for x in range(number):
            started = time.perf_counter()
            assert f.remote(x) == x
            seconds.append(time.perf_counter() - started)
            cluster.wait_until(lambda: not cluster.containers())

    with app.run():
        worker = worker_of(cluster)
        some(20 if LONG else 10)
        before = taken(worker)
        some(count)
        after = taken(worker)
    assert after["descriptors"] == before["descriptors"]
    assert after["mounts"] == before["mounts"]
    assert after["children"] <= before["children"] + 1
    assert after["memory"] < before["memory"] + 4096, (before, after)
    first, last = statistics.median(seconds[:20]), statistics.median(seconds[-20:])
    print(
        f"{count} containers: the first took {first * 1e3:.0f} ms each, the last {last * 1e3:.0f} ms; {before} {after}"
    )
    assert last < 2 * first or not LONG, f"the last starts took {last:.3f} s, the first {first:.3f} s"
