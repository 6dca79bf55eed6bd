"""SEMANTICS section 1, the hard ends: code that won't stop, forks, threads that stay, hooks that fail beside others."""

import asyncio
import os
import threading
import time

import pytest

import greenroom


def states(output):
    return [state for _, state, _ in output.changes]


@pytest.mark.parametrize("how", ["return", "raise", "generator", "coroutine", "await", "pickle"])
def test_a_forked_child_ends_where_it_leaves_user_code(cluster, output, how):
    app = greenroom.App("t")

    @app.cls(serialized=True, max_containers=1)
    class Model:
        @greenroom.enter()
        def load(self):
            if os.fork() == 0:
                return
            os.wait()

        @greenroom.method()
        def call(self, how):
            if (pid := os.fork()) == 0:
                if how == "raise":
                    raise ValueError("child")
                return "child"
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        @greenroom.method()
        def values(self):
            if (pid := os.fork()) == 0:
                return
            os.waitpid(pid, 0)
            yield "parent"

        @greenroom.method()
        def pickled(self):
            return Forking()

        @greenroom.exit()
        def close(self):
            print("exit")

    @app.cls(serialized=True, max_containers=1)
    class Loop:
        @greenroom.method()
        async def call(self):
            await asyncio.sleep(0)
            if (pid := os.fork()) == 0:
                return "child"
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        @greenroom.method()
        async def awaits(self):
            if (pid := os.fork()) == 0:
                await asyncio.sleep(0)
                print("the loop goes on in the child")
                return "child"
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        @greenroom.exit()
        async def close(self):
            print("exit")

    class Forking:
        def __reduce__(self):
            if (pid := os.fork()) == 0:
                return str, ("child",)
            os.waitpid(pid, 0)
            return str, ("parent",)

    with app.run():
        if how == "coroutine":
            assert Loop().call.remote() == 0
        elif how == "await":
            assert Loop().awaits.remote() == 0
        elif how == "generator":
            assert list(Model().values.remote_gen()) == ["parent"]
        elif how == "pickle":
            assert Model().pickled.remote() == "parent"
        else:
            assert Model().call.remote(how) == (1 if how == "raise" else 0)
    assert [line for line in output.lines() if "exit" in line or "loop" in line] == ["exit"]
    assert "FAILED" not in states(output)
    if how == "raise":
        assert "ValueError: child" in output.lines()


def test_a_coroutine_that_swallows_its_cancellation_costs_the_container_in_order(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True, max_containers=1)
    @greenroom.concurrent(max_inputs=5)
    class Model:
        @greenroom.enter()
        async def start(self):
            self.go_on = asyncio.Event()

        @greenroom.method()
        async def stubborn(self):
            while True:
                print("stubborn")
                try:
                    await asyncio.sleep(600)
                except asyncio.CancelledError:
                    continue

        @greenroom.method()
        async def other(self):
            print("other")
            await self.go_on.wait()
            return os.environ.get("GREENROOM_CONTAINER_ID")

        @greenroom.method()
        async def pid(self):
            return os.environ.get("GREENROOM_CONTAINER_ID")

        @greenroom.method()
        async def release(self):
            self.go_on.set()

        @greenroom.exit()
        async def close(self):
            await asyncio.sleep(0)
            print("exit")

    with app.run():
        pid = Model().pid.remote()
        other = Model().other.spawn()
        call = Model().stubborn.spawn()
        cluster.wait_until(lambda: {"stubborn", "other"} <= set(output.lines()))
        call.cancel()
        cluster.wait_until(lambda: output.lines().count("stubborn") == 2)
        Model().release.remote()
        assert other.get(timeout=30) == pid, "its other inputs finish"
        with pytest.raises(greenroom.InputCancellation):
            call.get(timeout=30)
        cluster.wait_until(lambda: "exit" in output.lines())
        assert Model().pid.remote() != pid
    assert "FAILED" not in states(output)


def test_a_lone_coroutine_that_swallows_its_cancellation(cluster, output):
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=1)
    async def f(x):
        while x:
            print("stubborn")
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                continue
        return os.environ.get("GREENROOM_CONTAINER_ID")

    with app.run():
        pid = f.remote(0)
        call = f.spawn(1)
        cluster.wait_until(lambda: "stubborn" in output.lines())
        call.cancel()
        with pytest.raises(greenroom.InputCancellation):
            call.get(timeout=30)
        assert f.remote(0) != pid
    assert "FAILED" not in states(output)


def test_a_coroutine_that_blocks_the_loop_costs_the_hooks(cluster, output):
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=1)
    async def f(x):
        if x:
            print("blocks")
            time.sleep(600)
        return os.environ.get("GREENROOM_CONTAINER_ID")

    with app.run():
        pid = f.remote(0)
        call = f.spawn(1)
        cluster.wait_until(lambda: "blocks" in output.lines())
        call.cancel()
        with pytest.raises(greenroom.InputCancellation):
            call.get(timeout=30)
        assert f.remote(0) != pid
    assert any("exit hooks could not run" in reason for _, state, reason in output.changes if state == "FAILED")


def test_a_sync_thread_past_its_timeout_lets_other_inputs_finish(held, output, tmp_path):
    app = greenroom.App("t")
    go_on = str(tmp_path / "go on")

    @app.cls(serialized=True, timeout=10, max_containers=1)
    @greenroom.concurrent(max_inputs=3)
    class Model:
        @greenroom.method()
        def f(self, what):
            print(what)
            if what == "stuck":
                time.sleep(600)
            while what == "waits" and not os.path.exists(go_on):
                time.sleep(0.01)
            return os.environ.get("GREENROOM_CONTAINER_ID")

        @greenroom.exit()
        def close(self):
            print("exit")

    with app.run():
        pid = Model().f.remote("first")
        stuck = Model().f.spawn("stuck")
        held.wait_until(lambda: "stuck" in output.lines())
        held.clock.advance(9)
        waits = Model().f.spawn("waits")
        held.wait_until(lambda: "waits" in output.lines())
        held.clock.advance(1)
        with pytest.raises(greenroom.FunctionTimeoutError, match="timeout of 10 s"):
            stuck.get(timeout=20)
        assert "exit" not in output.lines()
        open(go_on, "w").close()
        assert waits.get(timeout=20) == pid
        held.wait_until(lambda: "exit" in output.lines())
    assert "FAILED" not in states(output)


def test_an_async_enter_hook_that_is_stopped_is_cleaned_up_before_the_exit_hooks(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True, min_containers=1)
    class Model:
        @greenroom.enter()
        def open(self):
            print("opened")

        @greenroom.enter()
        async def slow(self):
            print("slow begins")
            try:
                await asyncio.sleep(600)
            finally:
                await asyncio.sleep(0)
                print("slow cleaned up")

        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        async def close(self):
            print("closed")

    with app.run():
        cluster.wait_until(lambda: "slow begins" in output.lines())
    assert output.lines() == ["opened", "slow begins", "slow cleaned up", "closed"]


def test_an_async_enter_hook_that_swallows_its_cancellation_costs_no_exit_hook(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True, min_containers=1)
    class Model:
        @greenroom.enter()
        def open(self):
            print("opened")

        @greenroom.enter()
        async def slow(self):
            while True:
                print("slow")
                try:
                    await asyncio.sleep(600)
                except asyncio.CancelledError:
                    continue

        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        async def close(self):
            print("closed")

    with app.run():
        cluster.wait_until(lambda: "slow" in output.lines())
    assert output.lines()[:4] == ["opened", "slow", "slow", "closed"]


def test_a_thread_that_stays_holds_up_no_end(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        def start(self):
            import atexit

            atexit.register(print, "at exit")
            threading.Thread(target=time.sleep, args=(600,)).start()

        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        def close(self):
            print("exit")

    with app.run():
        assert Model().f.remote() == 1
    assert output.lines() == ["exit", "at exit"]
    assert "FAILED" not in states(output)


def test_a_process_that_stays_holds_up_no_end(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.method()
        def f(self):
            import multiprocessing

            multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()

        @greenroom.exit()
        def close(self):
            print("exit")

    with app.run():
        Model().f.remote()
    assert output.lines() == ["exit"]
    assert "FAILED" not in states(output)


def test_a_task_that_stays_on_the_loop_holds_up_no_end(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.method()
        async def f(self):
            async def stays():
                while True:
                    try:
                        await asyncio.sleep(600)
                    except asyncio.CancelledError:
                        continue

            self.task = asyncio.create_task(stays())

        @greenroom.exit()
        def close(self):
            print("exit")

    with app.run():
        Model().f.remote()
    assert output.lines() == ["exit"]
    assert "FAILED" not in states(output)


def test_an_exit_hook_that_fails_after_a_failed_start_is_one_line(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
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
            raise RuntimeError("can't close")

    with app.run(), pytest.raises(ValueError, match="no model"):
        Model().f.remote()
    assert output.lines() == ["opened", "exit hook Model.close failed: RuntimeError: can't close"]


def test_failing_exit_hooks_are_told_one_by_one(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        def second(self):
            raise RuntimeError("two")

        @greenroom.exit()
        async def first(self):
            await asyncio.sleep(0)
            raise RuntimeError("one")

    with app.run():
        Model().f.remote()
    text = "\n".join(output.lines())
    assert text.count("RuntimeError: one") == text.count("RuntimeError: two") == 1
    assert "During handling" not in text
    assert "asyncio" not in text
    assert "greenroom/" not in text


def test_a_thread_of_the_users_that_fails_shows_its_own_frames(cluster, output):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def leaf():
        raise ValueError("in the leaf")

    @app.function(serialized=True)
    def root():
        thread = threading.Thread(target=lambda: leaf.remote(), name="mine")
        thread.start()
        thread.join()

    with app.run():
        root.remote()
    text = "\n".join(output.lines())
    assert "Exception in thread mine:" in text
    assert text.count("test_ends.py") == 2
    assert text.endswith("ValueError: in the leaf")
    assert "/greenroom/" not in text


def test_idle_scale_down_and_single_use_run_exit_hooks(held, output):
    app = greenroom.App("t")

    @app.cls(serialized=True, scaledown_window=30)
    class Idle:
        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        def close(self):
            print("idle exit")

    @app.cls(serialized=True, single_use_containers=True)
    class Single:
        @greenroom.method()
        def f(self):
            return 1

        @greenroom.exit()
        def close(self):
            print("single exit")

    with app.run():
        Single().f.remote()
        held.wait_until(lambda: "single exit" in output.lines())
        Idle().f.remote()
        held.wait_until(lambda: [c["state"] for c in held.containers()] == ["IDLE"])
        assert output.lines() == ["single exit"]
        held.clock.advance(31)
        held.wait_until(lambda: "idle exit" in output.lines())


def test_no_exit_hook_after_a_sudden_death(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.method()
        def f(self):
            os._exit(3)

        @greenroom.exit()
        def close(self):
            print("exit")

    with app.run(), pytest.raises(greenroom.ContainerCrashed, match="exit status 3"):
        Model().f.remote()
    assert output.lines() == []


@pytest.mark.parametrize("max_inputs", [1, 4])
def test_an_exit_in_a_background_task_ends_that_task_alone(cluster, output, max_inputs):
    app = greenroom.App("t")

    @app.cls(serialized=True, max_containers=1)
    @greenroom.concurrent(max_inputs=max_inputs)
    class Model:
        @greenroom.method()
        async def f(self):
            async def background():
                raise SystemExit(3)

            task = asyncio.create_task(background())
            await asyncio.wait([task])
            return os.environ.get("GREENROOM_CONTAINER_ID"), task.exception().code

        @greenroom.exit()
        async def close(self):
            print("exit")

    with app.run():
        assert Model().f.remote() == Model().f.remote()
    assert output.lines()[-1] == "exit"
    assert output.lines().count("SystemExit: 3") == 2
    assert "FAILED" not in states(output)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("where", ["enter", "aenter", "method", "amethod"])
def test_whatever_is_raised_is_the_inputs(cluster, output, where, kind):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        def first(self):
            if where == "enter":
                raise kind("odd")

        @greenroom.enter()
        async def second(self):
            if where == "aenter":
                raise kind("odd")

        @greenroom.method()
        def method(self):
            raise kind("odd")

        @greenroom.method()
        async def amethod(self):
            raise kind("odd")

        @greenroom.exit()
        def close(self):
            print("exit")

    with app.run(), pytest.raises(kind, match="odd"):
        (Model().amethod if where == "amethod" else Model().method).remote()
    assert ("exit" in output.lines()) == (where != "enter")


def test_one_that_dies_whenever_it_is_ready_is_started_again_each_second(held, tmp_path):
    app = greenroom.App("t")
    go = tmp_path / "go"

    @app.cls(serialized=True, min_containers=1)
    class Model:
        @greenroom.enter()
        def load(self):
            def die():
                while not go.exists():
                    time.sleep(0.005)
                os._exit(5)

            threading.Thread(target=die, daemon=True).start()

        @greenroom.method()
        def get(self):
            return 1

    def reasons():
        return [record["reason"] for record in held.ended()]

    with app.run():
        for number in (1, 2, 3):
            held.wait_until(lambda: [record["state"] for record in held.containers()] == ["IDLE"])
            go.touch()
            held.wait_until(lambda number=number: reasons() == ["exit status 5"] * number)
            assert held.containers() == []
            go.unlink()
            held.clock.advance(0.9)
            assert held.containers() == []
            held.clock.advance(0.1)
