"""Functions with a schedule: once their app is deployed they run by themselves. The server's clock is held."""

import threading

import pytest

import greenroom
from greenroom.model import app_logs


def ticking(tmp_path, schedule):
    app = greenroom.App("clockwork")

    def tick():
        import os

        (tmp_path / f"tick-{len(list(tmp_path.iterdir()))}-{os.urandom(4).hex()}").touch()

    app.function(serialized=True, name="tick", schedule=schedule)(tick)
    return app


def count(tmp_path):
    return len(list(tmp_path.iterdir()))


def quiet(held):
    """Nothing is on its way: of the store, of a container."""
    held.wait_until(
        lambda: held.on_server(lambda server: server.store.pending + len(server.lifecycle.calls.by_id)) == 0
    )


@pytest.mark.parametrize("settings", ["process"], indirect=True)
def test_it_fires_in_its_time_once_and_no_more_once_it_is_stopped(held, tmp_path):
    ticking(tmp_path, greenroom.Period(seconds=30)).deploy()
    (record,) = held.on_server(lambda server: server.deployments.records())
    held.wait_until(lambda: held.on_server(lambda server: server.deployments.records())[0]["next"])
    held.clock.advance(29)
    quiet(held)
    assert count(tmp_path) == 0
    for number in (1, 2, 3):
        held.clock.advance(30)
        held.wait_until(lambda number=number: count(tmp_path) == number)
        quiet(held)
    held.clock.advance(95)  # three were due: what was missed fires once
    held.wait_until(lambda: count(tmp_path) == 4)
    quiet(held)
    app = held.on_server(lambda server: server.deployments.current["clockwork"])
    held.on_server(lambda server: server.stop_app(app, "stopped"))
    held.wait_until(lambda: not held.containers())
    held.clock.advance(300)
    quiet(held)
    assert count(tmp_path) == 4
    assert record["functions"] == ["tick"]


@pytest.mark.parametrize("settings", ["process"], indirect=True)
def test_a_version_without_it_ends_it_and_one_with_another_begins_it_anew(held, tmp_path):
    ticking(tmp_path, greenroom.Period(seconds=30)).deploy()
    held.wait_until(lambda: held.on_server(lambda server: server.deployments.records())[0]["next"])
    held.clock.advance(20)
    ticking(tmp_path, greenroom.Period(seconds=60)).deploy()
    held.wait_until(lambda: held.on_server(lambda server: server.deployments.records())[0]["next"])
    held.clock.advance(45)
    quiet(held)
    assert count(tmp_path) == 0
    held.clock.advance(20)
    held.wait_until(lambda: count(tmp_path) == 1)
    ticking(tmp_path, None).deploy()
    held.clock.advance(600)
    quiet(held)
    assert count(tmp_path) == 1


@pytest.mark.parametrize("settings", ["process"], indirect=True)
def test_what_fires_as_its_app_ends_leaves_no_call_that_nobody_runs(held, tmp_path):
    ticking(tmp_path, greenroom.Period(seconds=30)).deploy()
    held.wait_until(lambda: held.on_server(lambda server: server.deployments.records())[0]["next"])
    go_on = threading.Event()
    held.on_server(lambda server: server.store.write(lambda connection: go_on.wait(60), lambda done: None))
    try:
        held.clock.advance(31)
        held.wait_until(lambda: held.on_server(lambda server: server.firing._due))
        app = held.on_server(lambda server: server.deployments.current["clockwork"])
        held.on_server(lambda server: server.stop_app(app, "stopped"))
    finally:
        go_on.set()
    quiet(held)
    found = []
    held.on_server(lambda server: server.store.read(
        lambda c: c.execute("SELECT finished_at, cancelled FROM calls").fetchall(), lambda done: found.append(done.result())))  # fmt: skip
    held.wait_until(lambda: found)
    (((finished, why),),) = found
    assert finished
    assert why == "the call was cancelled: its schedule ended as it fired"
    assert count(tmp_path) == 0


@pytest.mark.parametrize("settings", ["process"], indirect=True)
def test_one_that_fails_is_said_in_the_servers_log_and_shown_in_the_apps(held):
    app = greenroom.App("clockwork")

    def raises():
        raise ValueError("out of tea")

    def dies():
        import os

        os._exit(3)

    for function in (raises, dies):
        app.function(serialized=True, name=function.__name__, schedule=greenroom.Period(seconds=30))(function)
    said = []
    held.on_server(lambda server: setattr(server.peer_log, "_log", said.append))
    app.deploy()
    held.wait_until(lambda: len(held.on_server(lambda server: server.deployments.records())[0]["next"]) == 2)
    held.clock.advance(30)
    held.wait_until(lambda: len(said) == 2)
    assert sorted(said) == [
        "clockwork.dies, which its schedule called, failed: the container of dies died: exit status 3",
        "clockwork.raises, which its schedule called, failed: it raised what `greenroom app logs clockwork` shows",
    ]
    printed = app_logs.file_of(held.on_server(lambda server: server.home), "clockwork")
    held.wait_until(lambda: printed.exists() and "ValueError: out of tea" in printed.read_text())


@pytest.mark.parametrize("settings", ["process"], indirect=True)
def test_a_version_that_ends_has_no_next_time(held, tmp_path):
    def deploy():
        app = ticking(tmp_path, greenroom.Period(seconds=30))

        def wait(path):
            import pathlib
            import time

            while not pathlib.Path(path).exists():
                time.sleep(0.01)

        app.function(serialized=True, name="wait")(wait)
        app.deploy()

    def records():
        return {r["version"]: (r["state"], list(r["next"])) for r in held.on_server(lambda s: s.deployments.records())}

    deploy()
    call = greenroom.Function.from_name("clockwork", "wait").spawn(str(tmp_path / "go"))
    held.wait_until(lambda: [record["state"] for record in held.containers()] == ["RUNNING"])
    deploy()
    held.wait_until(lambda: records() == {1: ("stopping", []), 2: ("deployed", ["tick"])})
    (tmp_path / "go").touch()
    call.get(timeout=30)
