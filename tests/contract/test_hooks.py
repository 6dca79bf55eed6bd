"""SEMANTICS section 1: hooks, their order, and what happens when they fail."""

import asyncio
import os

import pytest

import greenroom


def test_enter_once_calls_exit(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        def load(self):
            print("enter")
            self.calls = 0

        @greenroom.method()
        def call(self, x):
            self.calls += 1
            return x, self.calls

        @greenroom.exit()
        def close(self):
            print("exit", self.calls)

    with app.run():
        assert [Model().call.remote(i) for i in range(3)] == [(0, 1), (1, 2), (2, 3)]
    assert output.lines() == ["enter", "exit 3"]


def test_hook_order_base_first_and_exits_reversed(cluster, output):
    app = greenroom.App("t")

    class Base:
        @greenroom.enter()
        def a(self):
            print("enter a of base")

        @greenroom.enter()
        def b(self):
            print("enter b of base")

        @greenroom.exit()
        def x(self):
            print("exit x")

    @app.cls(serialized=True)
    class Child(Base):
        @greenroom.enter()
        def c(self):
            print("enter c")

        @greenroom.enter()
        def a(self):
            print("enter a of child")

        @greenroom.exit()
        async def y(self):
            print("exit y")

        @greenroom.method()
        def f(self):
            return 1

    with app.run():
        assert Child().f.remote() == 1
    assert output.lines() == ["enter a of child", "enter b of base", "enter c", "exit y", "exit x"]


def test_sync_and_async_hooks_share_one_loop(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        async def first(self):
            self.loop = asyncio.get_running_loop()
            self.background = asyncio.create_task(asyncio.sleep(0.01, "done"))

        @greenroom.enter()
        def second(self):
            self.seen = True

        @greenroom.method()
        async def call(self):
            return self.loop is asyncio.get_running_loop(), await self.background, self.seen

        @greenroom.method()
        def sync_call(self):
            return asyncio.run(asyncio.sleep(0, "own loop"))

        @greenroom.exit()
        async def last(self):
            print("same loop" if self.loop is asyncio.get_running_loop() else "another loop")

    with app.run():
        assert Model().call.remote() == (True, "done", True)
        assert Model().sync_call.remote() == "own loop"
    assert output.lines() == ["same loop"]


def test_one_pool_for_methods_one_for_each_parameter_set(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        size: str = greenroom.parameter(default="small")

        @greenroom.method()
        def a(self):
            return os.environ.get("GREENROOM_CONTAINER_ID"), self.size

        @greenroom.method()
        def b(self):
            return os.environ.get("GREENROOM_CONTAINER_ID"), self.size

    with app.run():
        small, big = Model(), Model(size="big")
        assert small.a.remote() == small.b.remote()
        assert big.a.remote()[0] != small.a.remote()[0]
        assert big.b.remote()[1] == "big"


def test_custom_constructor(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        def __init__(self, a, *, b=2):
            self.sum = a + b

        @greenroom.method()
        def get(self):
            return self.sum

    with app.run():
        assert Model(1).get.remote() == 3
        assert Model(1, b=5).get.remote() == 6


def test_enter_raises_caller_gets_it_and_exit_hooks_by_the_rule(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class First:
        @greenroom.enter()
        def load(self):
            raise ValueError("no model")

        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        def close(self):
            print("must not run")

    @app.cls(serialized=True)
    class Second:
        @greenroom.enter()
        def open(self):
            print("opened")

        @greenroom.enter()
        def load(self):
            raise ValueError("no model")

        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        def close(self):
            print("closed")

    with app.run():
        with pytest.raises(ValueError, match="no model") as caught:
            First().f.remote()
        assert any("First.load" in note for note in caught.value.__notes__)
        with pytest.raises(ValueError, match="no model"):
            Second().f.remote()
    assert output.lines() == ["opened", "closed"]
    assert "FAILED" in {state for _, state, _ in output.changes}


def test_constructor_and_import_failures_reach_the_caller(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        def __init__(self):
            raise KeyError("broken")

        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        def close(self):
            print("must not run")

    with app.run(), pytest.raises(KeyError, match="broken"):
        Model().f.remote()
    assert output.lines() == []


def test_enter_that_dies(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        def load(self):
            os._exit(3)

        @greenroom.method()
        def f(self):
            return 1

    with app.run(), pytest.raises(greenroom.ContainerCrashed, match="exit status 3"):
        Model().f.remote()


def test_exit_hook_raises_others_still_run(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        def first(self):
            print("first")

        @greenroom.exit()
        def second(self):
            raise RuntimeError("can't close")

        @greenroom.exit()
        def third(self):
            print("third")

    with app.run():
        assert Model().f.remote() == 1
    lines = output.lines()
    assert lines[0] == "third"
    assert lines[-1] == "first"
    assert any("RuntimeError: can't close" in line for line in lines)
    assert any("Model.second" in notice for notice in output.notices)


def test_exit_phase_past_its_grace_is_killed(cluster, output):
    import time

    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        def slow(self):
            time.sleep(60)

        @greenroom.exit()
        def quick(self):
            print("quick ran")

    started = time.monotonic()
    with app.run():
        assert Model().f.remote() == 1
    assert 2.5 < time.monotonic() - started < 20
    assert output.lines() == ["quick ran"]
    (reason,) = {reason for _, state, reason in output.changes if state == "FAILED"}
    assert "3 s" in reason


def test_stop_while_entering_runs_exit_hooks_that_are_owed(cluster, output):
    import time

    app = greenroom.App("t")

    @app.cls(serialized=True, min_containers=1)
    class Model:
        @greenroom.enter()
        def open(self):
            print("opened")

        @greenroom.enter()
        def slow(self):
            print("slow begins")
            time.sleep(60)

        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        def close(self):
            print("closed")

    started = time.monotonic()
    with app.run():
        cluster.wait_until(lambda: "slow begins" in output.lines())
    assert time.monotonic() - started < 20
    assert output.lines() == ["opened", "slow begins", "closed"]


def test_deprecated_dunder_hooks(cluster, output):
    app = greenroom.App("t")
    with pytest.warns(DeprecationWarning, match=r"@enter\(\)|@exit\(\)"):

        @app.cls(serialized=True)
        class Model:
            def __enter__(self):
                print("entered")

            def __exit__(self, *exception):
                print("exited", exception)

            @greenroom.method()
            def f(self):
                return 1

    with app.run():
        assert Model().f.remote() == 1
    assert output.lines() == ["entered", "exited (None, None, None)"]


def test_hooks_are_in_the_timeline(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        def load(self):
            pass

        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        def close(self):
            pass

    with app.run():
        Model().f.remote()
    record = cluster.ended()[-1]
    names = [event.get("name", event["event"]) for event in record["events"]]
    assert names[:3] == ["QUEUED", "PLACED", "AGENT_CONNECTED"]
    order = [
        n
        for n in names
        if n in ("enter Model.load", "ENTERED", "INPUT_STARTED", "INPUTS_DONE", "STOP", "exit Model.close")
    ]
    assert order == ["enter Model.load", "ENTERED", "INPUT_STARTED", "INPUTS_DONE", "STOP", "exit Model.close"]
    assert record["state"] == "STOPPED"
    assert record["inputs_done"] == 1


def test_local_runs_enter_once_an_object(output):
    app = greenroom.App("t")
    seen = []

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        async def load(self):
            seen.append("enter")

        @greenroom.method()
        def f(self, x):
            return x + 1

        @greenroom.exit()
        def close(self):
            seen.append("exit")

    model = Model()
    assert model.f.local(1) == 2
    assert model.f.local(2) == 3
    assert seen == ["enter"]
    with Model() as other:
        assert other.f.local(3) == 4
    assert seen == ["enter", "enter", "exit"]
