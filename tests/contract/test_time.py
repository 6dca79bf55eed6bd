"""What time decides: timeouts, start-up limits, scaling. The server's clock is held."""

import asyncio
import os
import time

import pytest

import greenroom


def dooms(held):
    """Why running inputs are to end, of those that run."""
    return held.on_server(
        lambda server: [i.doom for c in server.lifecycle.containers.live() for i in c.running.values()]
    )


def states(held):
    return [c["state"] for c in held.containers()]


def test_timeout_only_that_input(held):
    app = greenroom.App("t")

    @app.function(serialized=True, timeout=10)
    def f(x):
        if x:
            time.sleep(60)
        return os.environ.get("GREENROOM_CONTAINER_ID")

    with app.run():
        pid = f.remote(0)
        call = f.spawn(1)
        held.wait_until(lambda: [c for c in held.containers() if c["state"] == "RUNNING"])
        held.clock.advance(9)
        assert dooms(held) == [""]
        held.clock.advance(1)
        with pytest.raises(greenroom.FunctionTimeoutError, match="timeout of 10 s"):
            call.get(timeout=20)
        assert f.remote(0) == pid


def test_async_timeout_cancels_the_task(held, output):
    app = greenroom.App("t")

    @app.function(serialized=True, timeout=10)
    async def f(x):
        if x:
            print("begins")
            try:
                await asyncio.sleep(60)
            finally:
                print("cleaned up")
        return os.environ.get("GREENROOM_CONTAINER_ID")

    with app.run():
        pid = f.remote(0)
        call = f.spawn(1)
        held.wait_until(lambda: output.lines() == ["begins"])
        held.clock.advance(10)
        with pytest.raises(greenroom.FunctionTimeoutError):
            call.get(timeout=20)
        assert f.remote(0) == pid
    assert output.lines() == ["begins", "cleaned up"]


def test_call_without_a_running_app():
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f(x):
        return x

    with pytest.raises(greenroom.ConnectionError, match=r"app.run\(\)"):
        f.remote(1)


def test_startup_timeout(held, output):
    import time

    app = greenroom.App("t")

    @app.cls(serialized=True, startup_timeout=20)
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

    with app.run():
        call = Model().f.spawn()
        held.wait_until(lambda: "slow begins" in output.lines())
        held.clock.advance(20)
        with pytest.raises(greenroom.FunctionTimeoutError, match="startup_timeout of 20 s"):
            call.get(timeout=20)
    assert output.lines() == ["opened", "slow begins", "closed"]


def test_from_none_to_max_and_back_to_none(held, tmp_path):
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=3, scaledown_window=30)
    def f(x):
        (tmp_path / os.environ["GREENROOM_CONTAINER_ID"]).touch()
        while len(list(tmp_path.iterdir())) < 3:
            time.sleep(0.01)
        return os.environ.get("GREENROOM_CONTAINER_ID")

    with app.run():
        assert held.containers() == []
        assert set(f.map(range(9))) == {path.name for path in tmp_path.iterdir()}
        held.wait_until(lambda: states(held) == ["IDLE"] * 3)
        held.clock.advance(29)
        assert states(held) == ["IDLE"] * 3
        held.clock.advance(2)
        held.wait_until(lambda: not held.containers())
    assert {r["reason"] for r in held.ended()} == {"idle for 30 s"}


def test_of_containers_that_share_what_one_would_do_one_stays(held, output, tmp_path):
    app = greenroom.App("t")

    @app.cls(serialized=True, scaledown_window=30)
    @greenroom.concurrent(max_inputs=2)
    class Model:
        @greenroom.method()
        async def wait(self, name):
            (tmp_path / f"{name}-{os.environ['GREENROOM_CONTAINER_ID']}").touch()
            while not (tmp_path / f"go-{name}").exists():
                await asyncio.sleep(0.01)
            return os.environ["GREENROOM_CONTAINER_ID"]

        @greenroom.exit()
        def leave(self):
            print("left")

    with app.run():
        crowd = [Model().wait.spawn("many") for _ in range(6)]
        held.wait_until(lambda: sorted(states(held)) == ["RUNNING"] * 3)
        (tmp_path / "go-many").touch()
        assert len({call.get(timeout=20) for call in crowd}) == 3
        held.wait_until(lambda: states(held) == ["IDLE"] * 3)
        few = [Model().wait.spawn("few") for _ in range(2)]
        held.wait_until(lambda: sorted(states(held)) == ["IDLE", "RUNNING", "RUNNING"])
        held.clock.advance(31)
        held.wait_until(lambda: sorted(states(held)) == ["RUNNING", "RUNNING"])
        held.clock.advance(30)
        assert sorted(states(held)) == ["RUNNING", "RUNNING"]  # all were needed not long ago
        held.clock.advance(30)
        held.wait_until(lambda: sorted(states(held)) == ["DRAINING", "RUNNING"])
        (tmp_path / "go-few").touch()
        assert len({call.get(timeout=20) for call in few}) == 2
        held.wait_until(lambda: states(held) == ["IDLE"])
    assert {r["reason"] for r in held.ended()} >= {"idle for 30 s", "fewer were enough for 30 s"}
    assert output.lines() == ["left"] * 3


def test_min_containers_stay(held):
    app = greenroom.App("t")

    @app.function(serialized=True, min_containers=2, scaledown_window=30)
    def f(x):
        return x

    with app.run():
        held.wait_until(lambda: [c["state"] for c in held.containers()] == ["IDLE", "IDLE"])
        held.clock.advance(100)
        held.clock.advance(100)
        assert [c["state"] for c in held.containers()] == ["IDLE", "IDLE"]


def test_single_use_containers(held):
    app = greenroom.App("t")

    @app.function(serialized=True, single_use_containers=True)
    def f(x):
        return os.environ.get("GREENROOM_CONTAINER_ID")

    with app.run():
        assert f.remote(1) != f.remote(2)
        held.wait_until(lambda: not held.containers())


def test_retry_delays(held, tmp_path):
    file = tmp_path / "attempts"
    app = greenroom.App("t")

    @app.function(serialized=True, retries=greenroom.Retries(max_retries=2, initial_delay=5, backoff_coefficient=2))
    def f():
        with open(file, "a") as opened:
            opened.write("x")
        raise ValueError("never")

    with app.run():
        call = f.spawn()

        def attempted(times):
            # In this order: an attempt that is over has written.
            return states(held) == ["IDLE"] and file.exists() and file.read_text() == "x" * times

        held.wait_until(lambda: attempted(1))
        held.clock.advance(4)
        assert attempted(1)
        held.clock.advance(1)
        held.wait_until(lambda: attempted(2))
        held.clock.advance(9)
        assert attempted(2)
        held.clock.advance(1)
        with pytest.raises(ValueError, match="never"):
            call.get(timeout=20)
    assert file.read_text() == "xxx"
