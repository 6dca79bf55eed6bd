"""Who gets an input, and when: a queue whose containers are busy, fail to start, or have been told to end."""

import os
import threading
import time

import pytest

import greenroom
from tests.conftest import wait_for
from tests.contract.waiting import wait_for_file


def test_an_input_never_waits_behind_a_slow_one(cluster, tmp_path):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f(path):
        if path:
            wait_for_file(path)
        return os.environ.get("GREENROOM_CONTAINER_ID")

    with app.run():
        pid = {f.remote("") for _ in range(5)}.pop()  # by now it is known to be quick
        slow = f.spawn(str(tmp_path / "go"))
        others = [f.spawn("") for _ in range(20)]
        assert pid not in greenroom.gather(*others), "other containers were started for what waits"
        (tmp_path / "go").touch()
        assert slow.get(timeout=60) == pid


def test_recursion_on_a_warm_container(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def down(n):
        return 0 if n == 0 else 1 + down.remote(n - 1)

    with app.run():
        for _ in range(5):
            down.remote(0)
        assert down.remote(3) == 3


def test_every_call_of_a_class_that_cannot_start_gets_the_users_exception(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Broken:
        @greenroom.enter()
        def load(self):
            raise KeyError("no such model")

        @greenroom.exit()
        def close(self):
            time.sleep(0.2)

        @greenroom.method()
        def f(self):
            return 1

    with app.run():
        for _ in range(4):
            with pytest.raises(KeyError, match="no such model"):
                Broken().f.remote()


def test_failing_starts_beside_a_container_at_work_are_backed_off(held, tmp_path):
    app = greenroom.App("t")
    broken, go = tmp_path / "broken", tmp_path / "go"

    @app.cls(serialized=True, max_containers=2)
    class Model:
        @greenroom.enter()
        def load(self):
            if broken.exists():
                raise RuntimeError("broken by now")

        @greenroom.method()
        def f(self):
            wait_for_file(go)
            return 1

    with app.run():
        first = Model().f.spawn()
        held.wait_until(lambda: [c for c in held.containers() if c["state"] == "RUNNING"])
        broken.touch()
        second = Model().f.spawn()
        for number, seconds in enumerate((1, 2, 4), 1):
            held.wait_until(lambda n=number: len(held.ended()) == n and len(held.containers()) == 1)
            held.clock.advance(seconds - 0.01)
            assert len(held.containers()) == 1, "the next start waits"
            held.clock.advance(0.01)
        held.wait_until(lambda: len(held.ended()) == 4)
        go.touch()
        assert greenroom.gather(first, second) == [1, 1], "the one that works has served both"


def test_a_result_that_comes_after_the_timeout_comes_too_late(held, tmp_path):
    app = greenroom.App("t")

    @app.function(serialized=True, timeout=10)
    async def stubborn(path):
        wait_for_file(path)  # blocks the loop: nothing can interrupt it
        return 1

    with app.run():
        call = stubborn.spawn(str(tmp_path / "go"))
        held.wait_until(lambda: [c for c in held.containers() if c["state"] == "RUNNING"])
        held.clock.advance(10)
        (tmp_path / "go").touch()
        with pytest.raises(greenroom.FunctionTimeoutError):
            call.get(timeout=60)


def test_a_refused_call_says_so_whenever_it_is_collected(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True, memory=10**9)
    def large():
        pass

    @app.function(serialized=True)
    def f():
        return 1

    with app.run():
        call = large.spawn()
        assert f.remote() == 1
        for _ in range(2):
            with pytest.raises(greenroom.InvalidError, match="asks for 1000000000 MiB"):
                call.get(timeout=60)


def test_whoever_waits_for_a_call_when_its_app_ends_is_told(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f():
        time.sleep(600)

    raised = []

    def wait(call):
        try:
            call.get()
        except BaseException as error:
            raised.append(type(error))

    with app.run():
        call = f.spawn()
        waiting = threading.Thread(target=wait, args=(call,))
        waiting.start()
        wait_for(lambda: [c for c in cluster.containers() if c["state"] == "RUNNING"])
    waiting.join(60)
    assert raised == [greenroom.exception.InputCancellation]


def test_a_server_that_is_told_to_end_lets_inputs_finish(held, tmp_path):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f(path):
        wait_for_file(path)
        return "finished"

    with app.run():
        quick, slow = f.spawn(str(tmp_path / "go")), f.spawn(str(tmp_path / "never"))
        held.wait_until(lambda: [c["state"] for c in held.containers()] == ["RUNNING", "RUNNING"])
        held.on_server(lambda server: server.shut_down("it got SIGTERM", drain=10))
        assert [c["state"] for c in held.containers()] == ["DRAINING", "DRAINING"]
        (tmp_path / "go").touch()
        assert quick.get(timeout=60) == "finished"
        held.clock.advance(9)
        held.wait_until(lambda: [c["state"] for c in held.containers()] == ["DRAINING"])
        held.clock.advance(1)
        with pytest.raises(greenroom.exception.InputCancellation):
            slow.get(timeout=60)


@pytest.mark.parametrize("end", ["os._exit(9)", "os.kill(os.getpid(), 9)", "ctypes.string_at(0)"])
def test_an_input_that_crashes_costs_no_other_its_result(cluster, tmp_path, end):
    """Many inputs are in a container's hands at once; those before the crash have their results, those after it run."""
    app = greenroom.App("t")
    ran = str(tmp_path / "ran")

    @app.function(serialized=True, max_containers=1)
    def f(x):
        with open(ran, "a") as file:
            file.write(f"{x}\n")
        if x == 50:
            import ctypes

            eval(end, {"os": os, "ctypes": ctypes})
        return x

    with app.run():
        for _ in range(20):
            f.remote(-1)  # by now it is known to be quick, and gets many at once
        outputs = list(f.map(range(100), return_exceptions=True))
    crashed = outputs.pop(50)
    assert isinstance(crashed, greenroom.exception.ContainerCrashed)
    assert "f died" in str(crashed)
    assert outputs == [x for x in range(100) if x != 50]
    numbers = [int(line) for line in (tmp_path / "ran").read_text().split() if line != "-1"]
    assert sorted(numbers) == list(range(100)), "each has run once"


def test_retries_are_the_crashing_inputs_own(cluster, tmp_path):
    app = greenroom.App("t")
    ran = str(tmp_path / "ran")

    @app.function(serialized=True, max_containers=1, retries=greenroom.Retries(max_retries=2, initial_delay=0.01))
    def f(x):
        with open(ran, "a") as file:
            file.write(f"{x}\n")
        if x == 5:
            os._exit(1)
        return x

    with app.run():
        for _ in range(20):
            f.remote(-1)
        outputs = list(f.map(range(10), return_exceptions=True))
    assert [type(x).__name__ for x in outputs] == ["int"] * 5 + ["ContainerCrashed"] + ["int"] * 4
    numbers = [int(line) for line in (tmp_path / "ran").read_text().split() if line != "-1"]
    assert sorted(numbers) == sorted([*range(10), 5, 5])


def test_a_function_that_waits_for_itself_says_so(cluster, output):
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=1)
    async def f(n):
        return await f.remote.aio(n - 1) if n else 0

    with app.run():
        assert f.remote(0) == 0
        call = f.spawn(1)
        wait_for(lambda: output.notices)
        call.cancel()
    (text,) = output.notices
    assert text == "f calls itself while every container that max_containers=1 allows is busy: it waits for one"


def test_a_generator_is_tried_again_until_it_has_yielded(cluster, tmp_path):
    app = greenroom.App("t")
    ran = str(tmp_path / "ran")

    @app.function(serialized=True, retries=greenroom.Retries(max_retries=2, initial_delay=0.01))
    def numbers(first):
        with open(ran, "a") as file:
            file.write("x")
            attempt = file.tell()
        if attempt < 3 and first:
            raise ValueError("before the first value")
        yield 0
        if not first:
            raise ValueError("after it")
        yield 1

    with app.run():
        assert list(numbers.remote_gen(True)) == [0, 1]
        assert (tmp_path / "ran").read_text() == "xxx"
        got = []
        with pytest.raises(ValueError, match="after it"):
            got.extend(numbers.remote_gen(False))
        assert (tmp_path / "ran").read_text() == "xxxx", "its values would come twice"


def test_enter_hooks_that_wait_for_another_function_keep_no_start_from_it(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def helper():
        return 1

    @app.cls(serialized=True, min_containers=6, startup_timeout=60)
    class Model:
        @greenroom.enter()
        def load(self):
            self.value = helper.remote()

        @greenroom.method()
        def get(self):
            return self.value

    with app.run():
        assert Model().get.remote() == 1
        cluster.wait_until(lambda: sum(c["state"] == "IDLE" for c in cluster.containers()) >= 6)


def test_never_more_than_max_containers_exit_hooks_included(held, tmp_path):
    app = greenroom.App("t")
    go_on, most = str(tmp_path / "go on"), []

    @app.cls(serialized=True, max_containers=1, scaledown_window=10)
    class Alone:
        @greenroom.method()
        def call(self):
            return os.environ["GREENROOM_CONTAINER_ID"]

        @greenroom.exit()
        def leave(self):
            open(go_on + " has begun", "w").close()
            wait_for_file(go_on)

    with app.run():
        first = Alone().call.remote()
        held.clock.advance(10)
        wait_for(lambda: os.path.exists(go_on + " has begun"))
        second = Alone().call.spawn()
        held.wait_until(lambda: held.on_server(lambda server: any(c.queue for c in _pools(server))))
        most.append(len(held.containers()))
        open(go_on, "w").close()
        assert second.get(timeout=60) != first
        most.append(len(held.containers()))
    assert most == [1, 1]


def _pools(server):
    return [pool for function in server.functions.values() for pool in function.pools.values()]


def test_a_container_has_no_arguments_of_ours(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f():
        import sys

        return sys.argv

    with app.run():
        assert f.remote() == [""]


def test_output_goes_on_after_a_program_opened_stdout_anew(cluster, output):
    """Which cuts it: what had not been seen by then is gone, as with any file. What had, and what follows, is not."""
    app = greenroom.App("t")

    @app.cls(serialized=True, max_containers=1)
    class Speaker:
        @greenroom.method()
        def speak(self, n):
            print("before " * 100, n)

        @greenroom.method()
        def speak_anew(self, n):
            import subprocess

            subprocess.run(["sh", "-c", f"echo anew {n} > /dev/stdout"], check=True)
            print("after", n)

    with app.run():
        for n in range(3):
            Speaker().speak.remote(n)
            cluster.wait_until(lambda n=n: "before " * 100 + f" {n}" in output.lines())
            Speaker().speak_anew.remote(n)
            cluster.wait_until(lambda n=n: f"after {n}" in output.lines())
    assert [line for line in output.lines() if line.startswith("anew")] == [f"anew {n}" for n in range(3)]


def test_containers_to_spare_while_there_is_work(cluster, tmp_path):
    app = greenroom.App("t")

    @app.function(serialized=True, buffer_containers=2)
    def f(path):
        wait_for_file(path)

    with app.run():
        assert cluster.containers() == []
        call = f.spawn(str(tmp_path / "go"))
        cluster.wait_until(lambda: sum(c["state"] in ("RUNNING", "IDLE") for c in cluster.containers()) == 3)
        (tmp_path / "go").touch()
        call.get(timeout=60)


def test_min_containers_of_a_class_with_parameters_hold_for_each_set_once_it_was_used(held):
    app = greenroom.App("t")

    @app.cls(serialized=True, min_containers=1, scaledown_window=10)
    class Model:
        size: int = greenroom.parameter(default=1)

        @greenroom.method()
        def get(self):
            return self.size

    with app.run():
        assert Model(size=2).get.remote() == 2
        assert Model(size=3).get.remote() == 3
        held.clock.advance(100)
        states = [c["state"] for c in held.containers() if c["state"] == "IDLE"]
        assert len(states) >= 2, "neither goes"
