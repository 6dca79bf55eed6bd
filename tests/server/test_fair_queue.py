"""A flood of one app beside another's call, with real processes on a machine of two cores."""

import os

import pytest

import greenroom
from greenroom.model.settings import Settings
from greenroom.server.fairness import TURN
from greenroom.server.machine import Machine
from greenroom.testing import Cluster
from tests.contract.waiting import wait_for_file

FLOOD = 50_000


def two_cores(server):
    server.machine = server.lifecycle.placing.machine = Machine(2, 1000, 0)


@pytest.fixture
def small():
    """A machine of 2 cores and 1,000 MiB, whose clock stands still."""
    with Cluster(
        hold=True, settings=Settings(sandbox="process", exit_grace=3.0, cancel_grace=1.0, max_starting=3)
    ) as made:
        made.on_server(two_cores)
        yield made


def flood_of(name, **options):
    """``(app, function)``: a function whose inputs take a while."""
    app = greenroom.App(name)

    @app.function(serialized=True, name=name, **options)
    def work(x):
        import time

        time.sleep(0.02)
        return x

    return app, work


def waiting_for(cluster, name):
    """Inputs in that function's queue."""
    return cluster.on_server(
        lambda server: sum(
            len(pool.queue) for f in server.functions.values() if f.spec.name == name for pool in f.pools.values()
        )
    )


def states(cluster, name):
    return sorted(c["state"] for c in cluster.containers() if c["function"] == name)


@pytest.mark.parametrize("options", [{"cpu": 1}, {"memory": 500}], ids=["cores", "memory"])
def test_a_flood_that_has_the_machine_makes_room_for_anothers_call(small, options):
    flood_app, flood = flood_of("flood", **options)
    other = greenroom.App("other")

    @other.function(serialized=True, **options)
    def one(x):
        return x + 1

    with flood_app.run(), other.run():
        call = flood.spawn_map(range(FLOOD))
        small.wait_until(lambda: states(small, "flood").count("RUNNING") == 2)
        assert one.remote(1) == 2
        assert waiting_for(small, "flood") > 0, "the flood was in no hurry to end"
        small.wait_until(lambda: states(small, "flood").count("RUNNING") == 2)
        call.cancel()
    reasons = [record["reason"] for record in small.ended()]
    assert reasons.count("made room for another function, whose turn it was") == 1
    assert "idle, and flood needs its cores" in reasons or "idle, and flood needs its memory" in reasons


def test_two_floods_take_turns_where_there_is_room_for_one(small):
    apps = [flood_of("first", cpu=2), flood_of("second", cpu=2)]
    with apps[0][0].run(), apps[1][0].run():
        calls = [apps[0][1].spawn_map(range(FLOOD))]
        small.wait_until(lambda: states(small, "first").count("RUNNING") == 1)
        calls.append(apps[1][1].spawn_map(range(FLOOD)))
        small.wait_until(lambda: states(small, "second") == ["PENDING"] * 3)
        small.clock.advance(TURN / 2)
        before = waiting_for(small, "first")
        small.wait_until(lambda: waiting_for(small, "first") < before - 10)
        assert states(small, "first").count("RUNNING") == 1, "its turn is not over"
        for runs in ("second", "first", "second"):
            small.clock.advance(10 * TURN)
            small.wait_until(lambda name=runs: states(small, name).count("RUNNING") == 1)
        for call in calls:
            call.cancel()


def test_what_a_flood_was_promised_it_keeps(small, tmp_path):
    flood_app, flood = flood_of("flood", cpu=1, min_containers=1)
    other = greenroom.App("other")

    @other.function(serialized=True, cpu=1)
    def one(x):
        return os.getpid()

    @other.function(serialized=True, cpu=2)
    def large():
        return 1

    with flood_app.run(), other.run():
        call = flood.spawn_map(range(FLOOD))
        small.wait_until(lambda: states(small, "flood").count("RUNNING") == 2)
        never = large.spawn()  # it asks for what was promised, and keeps nobody waiting
        assert one.remote(1)
        small.clock.advance(10 * TURN)
        assert "RUNNING" in states(small, "flood")
        call.cancel()
        never.cancel()


def test_the_container_that_is_idle_longest_goes_first(small, tmp_path):
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=3, scaledown_window=30)
    def f(path):
        wait_for_file(path)
        return os.environ["GREENROOM_CONTAINER_ID"]

    def ended():
        return [c["id"] for c in sorted(small.ended(), key=lambda c: c["events"][-1]["at"])]

    with app.run():
        calls = [f.spawn(str(tmp_path / f"go {number}")) for number in range(3)]
        small.wait_until(lambda: states(small, "f") == ["RUNNING"] * 3)
        order = []
        for number in (2, 0, 1):  # neither as they were made, nor the reverse
            (tmp_path / f"go {number}").touch()
            order.append(calls[number].get(timeout=60))
            small.wait_until(lambda: states(small, "f").count("IDLE") == len(order))
            small.clock.advance(5)
        small.clock.advance(14.9)
        assert states(small, "f") == ["IDLE"] * 3
        for number in range(3):
            small.clock.advance(0.2 if not number else 5)
            small.wait_until(lambda left=2 - number: len(states(small, "f")) == left)
            assert ended() == order[: number + 1]


def test_one_that_is_still_wanted_stays_and_it_is_not_the_one_idle_longest(small, tmp_path):
    app = greenroom.App("t")

    @app.function(serialized=True, min_containers=1, max_containers=2, scaledown_window=30)
    def f(path):
        wait_for_file(path)
        return os.environ["GREENROOM_CONTAINER_ID"]

    with app.run():
        calls = [f.spawn(str(tmp_path / f"go {number}")) for number in range(2)]
        small.wait_until(lambda: states(small, "f") == ["RUNNING"] * 2)
        (tmp_path / "go 1").touch()
        first = calls[1].get(timeout=60)
        small.clock.advance(1)
        (tmp_path / "go 0").touch()
        second = calls[0].get(timeout=60)
        small.wait_until(lambda: states(small, "f") == ["IDLE"] * 2)
        small.clock.advance(60)
        small.wait_until(lambda: len(states(small, "f")) == 1)
        assert [c["id"] for c in small.containers()] == [second]
        assert [c["id"] for c in small.ended()] == [first]


@pytest.mark.parametrize("how", ["os._exit(3)", "1 / 0"], ids=["the process dies", "a hook raises"])
def test_starts_that_fail_are_backed_off_though_nobody_calls(small, tmp_path, how):
    app = greenroom.App("t")
    good = str(tmp_path / "good")

    @app.cls(serialized=True, min_containers=1)
    class Model:
        @greenroom.enter()
        def load(self):
            if not os.path.exists(good):
                exec(how, {"os": os})

        @greenroom.method()
        def f(self):
            return 1

    with app.run():
        for number, seconds in enumerate((1, 2, 4, 8), 1):
            small.wait_until(lambda n=number: len(small.ended()) == n and not small.containers())
            small.clock.advance(seconds - 0.01)
            assert not small.containers(), "the next start waits"
            small.clock.advance(0.01)
        (tmp_path / "good").touch()
        small.wait_until(lambda: len(small.ended()) == 5 or states(small, "Model") == ["IDLE"])
        assert Model().f.remote() == 1, "a call waits for none of it"
