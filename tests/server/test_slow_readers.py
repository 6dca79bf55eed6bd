"""A client that doesn't read what its containers print: it fills nobody's memory, and holds up nobody else."""

import contextlib
import os
import subprocess
import sys
import threading

import pytest

import greenroom
from greenroom.cli.servers import Answering
from greenroom.model.settings import Settings
from greenroom.sdk.address import Address
from greenroom.sdk.output import use_sink
from greenroom.server import core
from greenroom.server.slow_readers import BACKLOG_LIMIT
from greenroom.testing import Cluster
from greenroom.wire.deploy_messages import StopDeployed
from greenroom.wire.messages import StopContainer
from tests.contract.conftest import Recorder

MIB = 1 << 20
MUCH = 6 * BACKLOG_LIMIT // MIB
"""MiB that are printed."""


OTHER = """
import sys
import greenroom
from greenroom.sdk.address import Address, configure

configure(Address(*sys.argv[1:]))
app = greenroom.App("other")

@app.function(serialized=True)
def quiet(x):
    print("said", x)
    return x

with greenroom.enable_output(), app.run():
    print("returned", quiet.remote(5))
"""
"""Another program's container starts, is heard, and ends."""


class Stuck(Recorder):
    """A display that takes nothing of ``loud`` and of images until it is let."""

    def __init__(self):
        super().__init__()
        self.let = threading.Event()
        self.sizes: dict[str, int] = {}
        """Bytes of each container's output that it was given."""
        self.built = 0

    def log(self, container_id, function, data):
        if function == "loud":
            self.let.wait()
        self.sizes[container_id] = self.sizes.get(container_id, 0) + len(data)

    def image_log(self, image_id, data):
        self.let.wait()
        self.built += len(data)


@pytest.fixture(scope="module")
def cluster():
    with Cluster(settings=Settings(sandbox="process")) as made:
        yield made


@pytest.fixture
def stuck():
    display = Stuck()
    with use_sink(display):
        yield display
        display.let.set()


def backlog(cluster):
    """Bytes that some client has not read."""
    return cluster.on_server(lambda server: max([0, *(visitor.connection.backlog for visitor in server.visitors)]))


def shout(mib):
    for _ in range(mib):
        os.write(1, b"x" * MIB)


def another_works(cluster):
    """Another program's."""
    address = cluster.on_server(lambda server: (server.socket_path, server.token))
    done = subprocess.run(
        [sys.executable, "-c", OTHER, *address], capture_output=True, text=True, timeout=60, check=False
    )
    assert sorted(done.stdout.splitlines()) == ["returned 5", "said 5"], done.stderr


@contextlib.contextmanager
def running(app, stuck):
    """The app; whatever happens, its output is read in the end."""
    with app.run():
        try:
            yield
        finally:
            stuck.let.set()


def gone(app, stuck):
    """It notices that its server has left it."""
    stuck.let.set()
    with contextlib.suppress(greenroom.ConnectionError):
        app.stop()


def test_its_containers_output_waits_in_files_and_all_others_go_on(cluster, stuck):
    app = greenroom.App("loud")
    loud = app.function(serialized=True, name="loud", max_containers=1)(shout)
    with running(app, stuck):
        loud.spawn(MUCH).get(timeout=60)
        cluster.wait_until(lambda: backlog(cluster) > BACKLOG_LIMIT)
        another_works(cluster)
        assert backlog(cluster) < 2 * BACKLOG_LIMIT
        stuck.let.set()
        cluster.wait_until(lambda: list(stuck.sizes.values()) == [MUCH * MIB])
        loud.spawn(1).get(timeout=60)
        cluster.wait_until(lambda: list(stuck.sizes.values()) == [(MUCH + 1) * MIB])


def test_nor_do_its_next_containers_fill_memory(cluster, stuck):
    """Each of them ends once what it printed has been read."""
    app = greenroom.App("loud")
    loud = app.function(serialized=True, name="loud", max_containers=4, single_use_containers=True)(shout)
    calls = 2 * BACKLOG_LIMIT // MIB
    with running(app, stuck):
        first = [loud.spawn(4) for _ in range(calls)]
        cluster.wait_until(lambda: backlog(cluster) > BACKLOG_LIMIT)
        another_works(cluster)
        assert backlog(cluster) < 2 * BACKLOG_LIMIT
        stuck.let.set()
        for call in first:
            call.get(timeout=60)
        cluster.wait_until(lambda: sum(stuck.sizes.values()) >= calls * 4 * MIB)
    assert list(stuck.sizes.values()) == [4 * MIB] * calls


def test_it_goes_while_output_waits(cluster, stuck):
    """As by SIGKILL: what it hasn't read is nobody's any more, and its containers end."""
    app = greenroom.App("loud")
    loud = app.function(serialized=True, name="loud")(shout)
    app.start()
    loud.spawn(MUCH).get(timeout=60)
    cluster.wait_until(lambda: backlog(cluster) > BACKLOG_LIMIT)
    cluster.on_server(
        lambda server: max(server.visitors, key=lambda visitor: visitor.connection.backlog).connection.abort()
    )
    cluster.wait_until(lambda: not cluster.containers())
    gone(app, stuck)


def test_a_server_that_is_told_to_end_does_so(stuck, monkeypatch):
    monkeypatch.setattr(core, "READERS", 0.1)
    app = greenroom.App("loud")
    loud = app.function(serialized=True, name="loud")(shout)
    with Cluster(settings=Settings(sandbox="process")) as cluster:
        app.start()
        loud.spawn(MUCH).get(timeout=60)
        cluster.wait_until(lambda: backlog(cluster) > BACKLOG_LIMIT)
    assert not stuck.let.is_set()
    gone(app, stuck)


@pytest.mark.parametrize("what", ["container", "app"])
def test_whoever_stops_it_waits_for_no_reader(cluster, stuck, monkeypatch, what):
    monkeypatch.setattr(core, "READERS", 0.1)
    app = greenroom.App("loud")
    loud = app.function(serialized=True, name="loud")(shout)
    with running(app, stuck):
        loud.spawn(MUCH).get(timeout=60)
        cluster.wait_until(lambda: backlog(cluster) > BACKLOG_LIMIT)
        (container,) = cluster.containers()
        server = Answering(Address(*cluster.on_server(lambda server: (server.socket_path, server.token))))
        if what == "container":
            assert "container stop" in server.ask(StopContainer(1, container["id"]), timeout=60)["reason"]
        else:
            server.ask(StopDeployed(1, "loud"), timeout=60)
        assert not stuck.let.is_set()
        assert cluster.containers() == []
        stuck.let.set()
        cluster.wait_until(
            lambda: any(f"`greenroom container logs {container['id']}` has it" in n for n in stuck.notices)
        )


def test_a_build_that_prints_much(cluster, stuck):
    app = greenroom.App("building", image=greenroom.Image.host().run_function(shout, args=(MUCH,)))
    f = app.function(serialized=True, name="f")(lambda: 1)
    results = []

    def run():
        with app.run():
            results.append(f.remote())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        cluster.wait_until(lambda: backlog(cluster) > BACKLOG_LIMIT)
        another_works(cluster)
        assert backlog(cluster) < 2 * BACKLOG_LIMIT
        assert not results
    finally:
        stuck.let.set()
        thread.join(60)
    assert results == [1]
    assert stuck.built >= MUCH * MIB
