"""What functions ask of the machine: who starts when, and what is kept in a real container."""

import os
import threading
import time

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.server.machine import Machine
from greenroom.testing import Cluster
from tests.conftest import wait_for
from tests.contract.waiting import wait_for_file


@pytest.fixture
def small(_shared):
    """A machine of 2 cores and 1,000 MiB."""
    with Cluster(settings=Settings(sandbox="process", shared_dirs=str(_shared))) as made:
        made.on_server(lambda server: setattr(server.lifecycle.placing, "machine", Machine(2, 1000, 0)))
        made.on_server(lambda server: setattr(server, "machine", Machine(2, 1000, 0)))
        yield made


def test_what_does_not_fit_waits_in_arrival_order_and_says_so(small, output, tmp_path):
    app = greenroom.App("t")

    @app.function(serialized=True, memory=600)
    def first(path):
        wait_for_file(path)
        return os.environ["GREENROOM_CONTAINER_ID"]

    @app.function(serialized=True, memory=600)
    def second():
        return 2

    @app.function(serialized=True)
    def modest():
        return 3

    with app.run():
        running = first.spawn(str(tmp_path / "go"))
        small.wait_until(lambda: any(c["state"] == "RUNNING" for c in small.containers()))
        waiting = second.spawn()
        wait_for(lambda: "second waits: it asks for 600 MiB of memory, and 400 are free" in output.notices)
        assert modest.remote() == 3, "who asks for nothing waits for nothing"
        assert [c["state"] for c in small.containers() if c["function"] == "second"] == ["PENDING"]
        (tmp_path / "go").touch()
        running.get(timeout=60)
        assert waiting.get(timeout=60) == 2, "the idle one went to make room"
    ended = {c["function"]: c["reason"] for c in small.ended()}
    assert ended["first"] == "idle, and second needs its memory"


def test_more_than_the_machine_has_is_refused_at_once(small):
    app = greenroom.App("t")

    @app.function(serialized=True, memory=2000)
    def f():
        return 1

    with (
        app.run(),
        pytest.raises(greenroom.InvalidError, match="asks for 2000 MiB of memory; this machine has 1000 MiB"),
    ):
        f.remote()


def test_more_cores_than_there_are_run_with_those(small, output):
    app = greenroom.App("t")

    @app.function(serialized=True, cpu=64)
    def f():
        return 1

    with app.run():
        assert f.remote() == 1
    assert "f asks for 64 CPUs; this machine has 2, so it runs with those" in output.notices


def test_a_function_that_needs_what_its_caller_holds_says_so_and_goes_on_after(small, output, tmp_path):
    app = greenroom.App("t")

    @app.function(serialized=True, cpu=2)
    def inner():
        return 1

    @app.function(serialized=True, cpu=2)
    def outer(path):
        call = inner.spawn()
        wait_for_file(path)
        return call.object_id

    with app.run():
        running = outer.spawn(str(tmp_path / "go"))
        wait_for(lambda: "inner waits: it asks for 2 cores, and 0 are free" in output.notices)
        (tmp_path / "go").touch()
        assert greenroom.FunctionCall.from_id(running.get(timeout=60)).get(timeout=60) == 1


def test_out_of_memory_is_told_with_the_limit(cluster, settings):
    app = greenroom.App("t")

    @app.function(serialized=True, memory=(32, 96))
    def f(size):
        return len(bytearray(size << 20))

    with app.run():
        assert f.remote(1) == 1 << 20
        if settings.sandbox == "process":
            return  # nothing keeps it there, and that was said
        with pytest.raises(greenroom.ContainerCrashed, match="out of memory: limit 96 MiB"):
            f.remote(512)
        assert f.remote(1) == 1 << 20, "the next container is unharmed"


def test_limits_that_are_not_kept_are_mentioned(cluster, settings, output):
    app = greenroom.App("t")

    @app.function(serialized=True, cpu=(0.5, 1.0))
    def f():
        return 1

    with app.run():
        assert f.remote() == 1
    told = [line for line in output.notices if line.startswith("limits of cpu= and memory= are not kept")]
    assert len(told) == (settings.sandbox == "process")


def test_a_blocked_network(cluster, settings):
    app = greenroom.App("t")

    @app.function(serialized=True, block_network=True)
    def f():
        import socket

        return [name for _, name in socket.if_nameindex()]

    @app.function(serialized=True, block_network=True)
    def g():
        return f.remote()

    with app.run():
        if settings.sandbox == "process":
            with pytest.raises(greenroom.ExecutionError, match="needs a real container, and this is a plain process"):
                f.remote()
        else:
            assert f.remote() == ["lo"]
            assert g.remote() == ["lo"], "the server is no network"


def test_ephemeral_disk_is_refused_with_the_reason(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True, ephemeral_disk=1024)
    def f():
        return 1

    with app.run(), pytest.raises(NotImplementedError, match="has no quota so far"):
        f.remote()


def test_many_waiters_of_one_resource_all_get_their_turn(small):
    """Admission is asked for every one that waits, each time something ends."""
    app = greenroom.App("t")

    @app.function(serialized=True, memory=500, max_containers=30, single_use_containers=True)
    def f(x):
        return x

    seen = []
    with app.run():
        reader = threading.Thread(target=lambda: seen.extend(f.map(range(12))))
        reader.start()
        reader.join(100)
    assert seen == list(range(12))


def test_containers_to_spare_take_nothing_from_anybody(small):
    """Two functions that would each like one more than fits: neither's idle container goes for the other's spare one."""
    app = greenroom.App("t")

    @app.function(serialized=True, cpu=1, min_containers=1, buffer_containers=1)
    def a(seconds):
        time.sleep(seconds)

    @app.function(serialized=True, cpu=1, min_containers=1, buffer_containers=1)
    def b(seconds):
        time.sleep(seconds)

    with app.run():
        for call in [a.spawn(0.5), b.spawn(0.5)]:
            call.get(timeout=60)
        assert small.ended() == []
