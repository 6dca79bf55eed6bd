"""Spawned calls of deployed apps: acknowledged once they are kept, collected by anybody, whatever memory has forgotten."""

import asyncio
import subprocess
import sys
import threading

import pytest

import greenroom
from greenroom.server import durable
from tests.conftest import wait_for
from tests.contract.conftest import settings_of


@pytest.fixture(scope="module", params=["process", "crun"])
def settings(request, _shared):
    """As for the whole suite, but for runc: what starts a container is nothing to what this is about."""
    return settings_of(request.param, _shared)


def shop():
    app = greenroom.App("shop")

    def double(x):
        if x == "fails":
            raise ValueError("of mine")
        return x * 2

    def wait(path):
        import pathlib
        import time

        pathlib.Path(path).touch()
        while not pathlib.Path(f"{path}.go").exists():
            time.sleep(0.01)
        return "waited"

    app.function(serialized=True, name="double")(double)
    app.function(serialized=True, name="wait", max_containers=1)(wait)
    return app


def named(name):
    return greenroom.Function.from_name("shop", name)


@pytest.fixture(autouse=True)
def _ends(cluster):
    shop().deploy()
    yield
    for app in cluster.on_server(lambda server: list(server.apps.values())):
        cluster.on_server(lambda server, app=app: server.stop_app(app, "the test is over"))
    cluster.wait_until(lambda: not cluster.on_server(lambda server: server.apps))


def in_memory(cluster):
    return cluster.on_server(lambda server: len(server.lifecycle.calls.by_id))


def test_it_is_collected_from_the_store_once_memory_has_forgotten_it(cluster):
    call = named("double").spawn(21)
    fails = named("double").spawn("fails")
    assert call.get(timeout=30) == 42
    with pytest.raises(ValueError, match="of mine"):
        fails.get(timeout=30)
    cluster.wait_until(lambda: in_memory(cluster) == 0)
    assert greenroom.FunctionCall.from_id(call.object_id).get(timeout=30) == 42
    with pytest.raises(ValueError, match="of mine"):
        greenroom.FunctionCall.from_id(fails.object_id).get(timeout=30)
    with pytest.raises(greenroom.NotFoundError, match="fc-0000"):
        greenroom.FunctionCall.from_id("fc-0000").get(timeout=30)


def test_many_inputs_and_many_collectors_at_all_times(cluster, tmp_path):
    many = named("double").spawn_map(range(2000))
    late = [greenroom.FunctionCall.from_id(many.object_id) for _ in range(4)]
    found = []
    threads = [threading.Thread(target=lambda call=call: found.append(list(call.iter()))) for call in late]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[x * 2 for x in range(2000)]] * 4
    cluster.wait_until(lambda: in_memory(cluster) == 0)
    assert list(greenroom.FunctionCall.from_id(many.object_id).iter()) == found[0]
    assert greenroom.FunctionCall.from_id(many.object_id).num_inputs() == 2000


def test_a_cancelled_one_stays_cancelled(cluster, tmp_path):
    first = named("wait").spawn(str(tmp_path / "a"))
    wait_for((tmp_path / "a").exists)
    second = named("wait").spawn(str(tmp_path / "b"))
    second.cancel()
    first.cancel()
    cluster.wait_until(lambda: in_memory(cluster) == 0)
    for call in (first, second):
        with pytest.raises(greenroom.InputCancellation):
            greenroom.FunctionCall.from_id(call.object_id).get(timeout=30)
    assert not (tmp_path / "b").exists()


def test_whoever_cancels_hears_of_what_there_is_not_and_of_what_can_not_be_kept(cluster, tmp_path):
    with pytest.raises(greenroom.NotFoundError, match="no spawned call fc-0000 in a running app"):
        greenroom.FunctionCall.from_id("fc-0000").cancel()
    with pytest.raises(greenroom.NotFoundError, match="no spawned call fc-0000 in a running app"):
        asyncio.run(greenroom.FunctionCall.from_id("fc-0000").cancel.aio())
    ended, waits = named("double").spawn(1), named("wait").spawn(str(tmp_path / "a"))
    assert ended.get(timeout=30) == 2
    cluster.wait_until(lambda: in_memory(cluster) == 1)
    ended.cancel()  # too late, and no mistake
    assert greenroom.FunctionCall.from_id(ended.object_id).get(timeout=30) == 2
    cluster.on_server(lambda server: server.store.write(
        lambda c: c.execute("PRAGMA max_page_count = 1").fetchone(), lambda done: None))  # fmt: skip
    try:
        with pytest.raises(greenroom.ExecutionError, match="can't be kept"):
            named("double").spawn(b"x" * 100_000)
        with pytest.raises(
            greenroom.ExecutionError, match="the call is cancelled, but that can't be kept, and the next server"
        ):
            waits.cancel()
    finally:
        cluster.on_server(lambda server: server.store.write(
            lambda c: c.execute("PRAGMA max_page_count = 1000000000").fetchone(), lambda done: None))  # fmt: skip
    wait_for(lambda: not cluster.on_server(lambda server: server.store.problem), what="it recovers")
    with pytest.raises(greenroom.InputCancellation):
        waits.get(timeout=30)


def test_a_container_of_another_app_collects_and_cancels_one_whose_id_it_was_told(cluster, tmp_path):
    app = greenroom.App("other")

    @app.function(serialized=True)
    def collect(call_id, timeout):
        import greenroom

        return greenroom.FunctionCall.from_id(call_id).get(timeout=timeout)

    @app.function(serialized=True)
    def cancel(call_id):
        import greenroom

        greenroom.FunctionCall.from_id(call_id).cancel()

    runs, waits = (named("wait").spawn(str(tmp_path / name)) for name in "ab")
    with app.run():
        with pytest.raises(greenroom.TimeoutError):
            collect.remote(runs.object_id, 0)
        cancel.remote(waits.object_id)
        (tmp_path / "a.go").touch()
        assert collect.remote(runs.object_id, 30) == "waited"
        with pytest.raises(greenroom.InputCancellation):
            collect.remote(waits.object_id, 30)


def test_one_that_waits_is_collected_as_it_ends(cluster, tmp_path):
    call = named("wait").spawn(str(tmp_path / "a"))
    with pytest.raises(greenroom.TimeoutError):
        call.get(timeout=0.5)
    found = []
    thread = threading.Thread(
        target=lambda: found.append(greenroom.FunctionCall.from_id(call.object_id).get(timeout=60))
    )
    thread.start()
    (tmp_path / "a.go").touch()
    thread.join()
    assert found == ["waited"] == [call.get(timeout=30)]


def test_its_results_outlive_its_app(cluster):
    call = named("double").spawn("x")
    assert call.get(timeout=30) == "xx"
    app = cluster.on_server(lambda server: server.deployments.current["shop"])
    cluster.on_server(lambda server: server.stop_app(app, "stopped"))
    cluster.wait_until(lambda: not cluster.on_server(lambda server: server.apps))
    assert greenroom.FunctionCall.from_id(call.object_id).get(timeout=30) == "xx"


def test_what_can_not_be_kept_is_told_its_caller_and_does_not_run(cluster):
    def full(server):
        connection = server.store
        server.store.write(lambda c: c.execute("PRAGMA max_page_count = 1").fetchone(), lambda done: None)
        return connection

    cluster.on_server(full)
    try:
        with pytest.raises(greenroom.ExecutionError, match="can't be kept, and doesn't run"):
            named("double").spawn(b"x" * 100_000)
    finally:
        cluster.on_server(lambda server: server.store.write(
            lambda c: c.execute("PRAGMA max_page_count = 1000000000").fetchone(), lambda done: None))  # fmt: skip
    wait_for(lambda: not cluster.on_server(lambda server: server.store.problem), what="it recovers")
    assert named("double").spawn(1).get(timeout=30) == 2


POLLS = """
import asyncio
import greenroom
from greenroom.sdk.address import Address, configure

def polled(call_id):
    try:
        return greenroom.FunctionCall.from_id(call_id).get(timeout=0)
    except greenroom.TimeoutError as error:
        return str(error)

async def polled_async(call_id):
    try:
        return await greenroom.FunctionCall.from_id(call_id).get.aio(timeout=0)
    except greenroom.TimeoutError as error:
        return str(error)

configure(Address(*ADDRESS))
for call_id in CALLS:
    print(polled(call_id), "|", asyncio.run(polled_async(call_id)))
"""


def test_without_waiting_whoever_asks_is_told_what_there_is(cluster, tmp_path):
    """As a program does that asks now and then, each time in a process or a thread of its own."""
    address = cluster.on_server(lambda server: (server.socket_path, server.token))
    kept, waits = named("double").spawn([1]), named("wait").spawn(str(tmp_path / "a"))
    assert kept.get(timeout=30) == [1, 1]
    cluster.wait_until(lambda: in_memory(cluster) == 1)
    calls = [kept.object_id, waits.object_id]
    program = POLLS.replace("ADDRESS", repr(address)).replace("CALLS", repr(calls))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    late = f"the call {waits.object_id} has no result after 0 s; it goes on"
    assert (done.stdout, done.stderr) == (f"[1, 1] | [1, 1]\n{late} | {late}\n", "")
    (tmp_path / "a.go").touch()
    assert waits.get(timeout=30) == "waited"


def test_another_process_collects_it(cluster, tmp_path):
    address = cluster.on_server(lambda server: (server.socket_path, server.token))
    call = named("double").spawn([1])
    program = f"""
import greenroom
from greenroom.server import durable
from greenroom.sdk.address import Address, configure
configure(Address(*{address!r}))
print(greenroom.FunctionCall.from_id({call.object_id!r}).get(timeout=30))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[1, 1]\n", "")


def test_inputs_beyond_the_window_wait_in_the_store_alone(cluster, monkeypatch):
    monkeypatch.setattr(durable, "WINDOW", 50)
    call = named("double").spawn_map(range(1000))
    most = cluster.on_server(lambda server: max(len(c.inputs) for c in server.lifecycle.calls.by_id.values()))
    assert most <= 50
    assert list(call.iter()) == [x * 2 for x in range(1000)]
    cluster.wait_until(lambda: in_memory(cluster) == 0)


def test_those_beyond_the_window_are_cancelled_too_and_their_collectors_hear_of_it(cluster, monkeypatch, tmp_path):
    monkeypatch.setattr(durable, "WINDOW", 5)
    monkeypatch.setattr(durable, "STEP", 7)
    call = named("wait").spawn_map([str(tmp_path / str(n)) for n in range(60)])
    wait_for((tmp_path / "0").exists)
    heard = []

    def collect():
        for index in range(60):
            try:
                greenroom.FunctionCall.from_id(call.object_id).get(timeout=60, index=index)
            except greenroom.InputCancellation:
                heard.append(index)

    thread = threading.Thread(target=collect)
    thread.start()
    call.cancel()
    thread.join()
    assert heard == list(range(60))
    cluster.wait_until(lambda: in_memory(cluster) == 0)
    assert greenroom.FunctionCall.from_id(call.object_id).num_inputs() == 60


def test_inputs_that_wait_for_the_disk_are_bounded_by_their_bytes(cluster):
    """However few frames they come in: whoever brings them waits."""
    go_on, calls = threading.Event(), []
    cluster.on_server(lambda server: server.store.write(lambda connection: go_on.wait(60), lambda done: None))
    payloads = [bytes(100_000)] * 700
    bringing = threading.Thread(target=lambda: calls.append(named("double").spawn_map(payloads)))
    bringing.start()
    try:
        wait_for(lambda: cluster.on_server(lambda server: server.durable.behind), what="it has to wait")
        seen = {cluster.on_server(lambda server: server.durable._unwritten) for _ in range(200)}
        assert max(seen) <= durable.MOST_COMING + 8 * 1024**2, "what had come in the same turn is there too"
        assert bringing.is_alive()
    finally:
        go_on.set()
        bringing.join()
    assert [len(result) for result in calls[0].iter()] == [200_000] * 700
    assert cluster.on_server(lambda server: server.durable._unwritten) == 0
