"""SEMANTICS section 4, and the rows of section 1 about inputs."""

import asyncio
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import greenroom
from tests.long_form import LONG


def make_app():
    app = greenroom.App("t")

    @app.function(serialized=True)
    def double(x, plus=0):
        return x * 2 + plus

    @app.function(serialized=True)
    async def adouble(x):
        await asyncio.sleep(0)
        return x * 2

    @app.function(serialized=True)
    def count(n):
        yield from range(n)

    @app.function(serialized=True)
    async def acount(n):
        for i in range(n):
            yield i

    @app.function(serialized=True)
    def fail(x):
        raise ValueError(f"no {x}")

    app.handles = (double, adouble, count, acount, fail)
    return app


@pytest.fixture(scope="module")
def running(cluster):
    app = make_app()
    with app.run():
        yield app.handles


def test_remote(running):
    double, adouble, *_ = running
    assert double.remote(2) == 4
    assert double.remote(2, plus=1) == 5
    assert adouble.remote(3) == 6
    assert double.local(4) == 8
    assert double(4) == 8


def test_remote_from_coroutine_is_a_coroutine(running):
    double, adouble, *_ = running

    async def main():
        first = await double.remote(1)
        second = await adouble.remote.aio(2)
        several = await asyncio.gather(*[double.remote(i) for i in range(20)])
        return first, second, several

    assert asyncio.run(main()) == (2, 4, [2 * i for i in range(20)])


def test_sync_function_called_in_a_coroutine_blocks(running):
    double, *_ = running

    def plain():
        return double.remote(5)

    async def main():
        return plain()

    assert asyncio.run(main()) == 10


def test_generators(running):
    _, _, count, acount, _ = running
    assert list(count.remote_gen(5)) == [0, 1, 2, 3, 4]
    assert list(acount.remote_gen(5)) == [0, 1, 2, 3, 4]
    assert list(count.remote_gen(2000)) == list(range(2000))

    async def main():
        return [x async for x in count.remote_gen(3)], [x async for x in acount.remote_gen.aio(3)]

    assert asyncio.run(main()) == ([0, 1, 2], [0, 1, 2])
    with pytest.raises(greenroom.InvalidError, match="remote_gen"):
        count.remote(3)


def test_abandoned_generator_is_cancelled(cluster):
    """The only container is free again."""
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=1)
    def count(n):
        for i in range(n):
            yield i, os.environ.get("GREENROOM_CONTAINER_ID")

    with app.run():
        generator = count.remote_gen(10**9)
        began = [next(generator) for _ in range(3)]
        assert [i for i, _ in began] == [0, 1, 2]
        generator.close()
        assert list(count.remote_gen(2)) == [(0, began[0][1]), (1, began[0][1])]


def test_map(running):
    double, adouble, _, _, fail = running
    assert list(double.map(range(1000))) == [2 * i for i in range(1000)]
    assert list(double.map([1, 2], [10, 20])) == [12, 24]
    assert sorted(double.map(range(50), order_outputs=False)) == [2 * i for i in range(50)]
    assert list(double.map(iter([1, 2, 3]), kwargs={"plus": 1})) == [3, 5, 7]
    assert list(double.starmap([(1, 1), (2, 2)])) == [3, 6]
    assert list(adouble.map(range(10))) == [2 * i for i in range(10)]
    assert double.for_each(range(3)) is None
    with pytest.raises(ValueError, match="no 1"):
        list(fail.map([1]))
    results = list(fail.map([1, 2], return_exceptions=True))
    assert [str(r) for r in results] == ["no 1", "no 2"]
    assert list(double.map([])) == []


def test_map_async(running):
    double, *_ = running

    async def inputs():
        for i in range(5):
            yield i

    async def main():
        return (
            [x async for x in double.map(range(100))],
            [x async for x in double.map.aio(inputs())],
        )

    assert asyncio.run(main()) == ([2 * i for i in range(100)], [0, 2, 4, 6, 8])


def test_map_over_an_iterator_that_waits_for_outputs(running):
    double, *_ = running
    taken = []

    def inputs():
        for i in range(5):
            while i and len(taken) < i:
                time.sleep(0.001)
            yield i

    for value in double.map(inputs()):
        taken.append(value)
    assert taken == [0, 2, 4, 6, 8]


def test_iterator_that_raises(running):
    double, *_ = running

    def inputs():
        yield 1
        raise KeyError("input")

    with pytest.raises(KeyError, match="input"):
        list(double.map(inputs()))


def test_spawn_get_gather(running):
    double, adouble, *_, fail = running
    calls = [double.spawn(i) for i in range(10)]
    assert greenroom.gather(*calls) == [2 * i for i in range(10)]
    assert calls[3].get() == 6
    assert calls[3].get() == 6
    assert greenroom.FunctionCall.from_id(calls[4].object_id).get() == 8
    with pytest.raises(ValueError, match="no 7"):
        fail.spawn(7).get(timeout=30)

    async def main():
        call = await adouble.spawn(4)
        return await call.get(), await call.get.aio(timeout=5)

    assert asyncio.run(main()) == (8, 8)


def test_many_gets_of_one_call(running):
    double, *_ = running
    call = double.spawn_map(range(50))

    async def main():
        each = await asyncio.gather(*[call.get.aio(index=index) for index in reversed(range(50))])
        again = await asyncio.gather(call.get.aio(), call.get.aio(), call.num_inputs.aio())
        fresh = [greenroom.FunctionCall.from_id(call.object_id) for _ in range(2)]
        return each, again, await asyncio.gather(*[handle.get.aio(index=3) for handle in fresh])

    assert asyncio.run(main()) == ([2 * i for i in reversed(range(50))], [0, 0, 50], [6, 6])


def test_gets_of_one_call_from_many_threads_and_a_loop(cluster, tmp_path):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def after(file):
        while not os.path.exists(file):
            time.sleep(0.005)
        return os.path.basename(file)

    with app.run(), ThreadPoolExecutor(4) as pool:
        call = after.spawn_map([str(tmp_path / name) for name in "ab"])
        waiting = [pool.submit(call.get, index=index) for index in (0, 1, 0, 1)]

        async def main():
            mine = asyncio.gather(call.get.aio(index=1), call.get.aio(index=0))
            await asyncio.sleep(0)
            for name in "ab":
                (tmp_path / name).touch()
            return await mine

        assert asyncio.run(main()) == ["b", "a"]
        assert [future.result() for future in waiting] == ["a", "b", "a", "b"]
        assert list(call.iter()) == ["a", "b"]


def test_large_result_can_be_had_twice(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def zeros(size):
        return bytes(size)

    with app.run():
        call = zeros.spawn(2 * 1024**2)
        assert call.get() == call.get() == bytes(2 * 1024**2)


@pytest.mark.parametrize("name", [3, None, b"fc-1", "ap-1", ""])
def test_what_is_no_calls_id(name):
    with pytest.raises(greenroom.InvalidError, match="object_id"):
        greenroom.FunctionCall.from_id(name)


def test_spawn_map(running):
    double, *_ = running
    call = double.spawn_map(range(10))
    assert call.num_inputs() == 10
    assert list(call.iter()) == [2 * i for i in range(10)]
    assert call.get(index=7) == 14


def test_get_timeout(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def slow():
        time.sleep(60)

    with app.run():
        call = slow.spawn()
        with pytest.raises(TimeoutError, match="it goes on"):
            call.get(timeout=0.1)
        with pytest.raises(greenroom.TimeoutError):
            call.get(timeout=0)


@pytest.mark.parametrize("timeout", [30 * 86400, 1e20, math.inf])
def test_get_may_wait_for_as_long_as_anybody_likes(running, timeout):
    double, *_ = running
    assert double.spawn(2).get(timeout=timeout) == 4
    assert asyncio.run(double.spawn(2).get.aio(timeout=timeout)) == 4


def test_unknown_call(running):
    with pytest.raises(greenroom.NotFoundError, match="fc-nothing"):
        greenroom.FunctionCall.from_id("fc-nothing").get(timeout=5)


def test_calls_from_inside_containers(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def leaf(x):
        return x + 1

    @app.cls(serialized=True)
    class Model:
        @greenroom.method()
        def f(self, x):
            return leaf.remote(x) * 10

        @greenroom.method()
        def g(self, x):
            return self.f.local(x) + self.f(x)

    @app.function(serialized=True)
    def root(n):
        return sum(leaf.map(range(n))) + Model().f.remote(1) + Model().g.remote(0)

    with app.run():
        assert root.remote(3) == 6 + 20 + 20


def test_recursion_never_waits_behind_itself(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def down(n):
        return 0 if n == 0 else 1 + down.remote(n - 1)

    with app.run():
        assert down.remote(3) == 3


def test_is_local_and_input_id(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def where():
        return greenroom.is_local(), greenroom.current_input_id(), greenroom.current_function_call_id()

    with app.run():
        local, input_id, call_id = where.remote()
    assert not local
    assert input_id.startswith("in-")
    assert call_id.startswith("fc-")
    assert greenroom.is_local()
    assert greenroom.current_input_id() is None


def test_exception_keeps_type_frames_and_cause(cluster):
    import traceback

    app = greenroom.App("t")

    @app.function(serialized=True)
    def outer():
        def inner():
            try:
                {}["key"]
            except KeyError as error:
                raise ValueError("bad") from error

        inner()

    with app.run(), pytest.raises(ValueError, match="bad") as caught:
        outer.remote()
    text = "".join(traceback.format_exception(caught.value))
    assert "KeyError: 'key'" in text
    assert 'raise ValueError("bad") from error' in text
    assert text.count("test_calls.py") >= 3
    assert "agent/serve" not in text


def test_exception_whose_type_cannot_travel(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f():
        class Odd(Exception):
            def __init__(self, a, b):
                super().__init__(f"{a} and {b}")
                self.lock = __import__("threading").Lock()

        raise Odd(1, 2)

    with app.run(), pytest.raises(greenroom.RemoteError, match="1 and 2"):
        f.remote()


def test_system_exit_is_the_inputs_failure(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f(x):
        if x:
            raise SystemExit(3)
        return os.environ.get("GREENROOM_CONTAINER_ID")

    with app.run():
        pid = f.remote(0)
        with pytest.raises(SystemExit):
            f.remote(1)
        assert f.remote(0) == pid


def test_cancel_is_a_base_exception_inside(cluster, output):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f(x):
        if x:
            try:
                print("running")
                time.sleep(60)
            except Exception:
                print("caught, wrongly")
            except BaseException as error:
                print(type(error).__name__)
                raise
        return os.environ.get("GREENROOM_CONTAINER_ID")

    with app.run():
        pid = f.remote(0)
        call = f.spawn(1)
        cluster.wait_until(lambda: "running" in output.lines())
        call.cancel()
        with pytest.raises(greenroom.InputCancellation):
            call.get(timeout=20)
        assert f.remote(0) == pid
    assert output.lines() == ["running", "InputCancellation"]


def test_input_that_will_not_stop_costs_the_container(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.method()
        def f(self, x):
            while x:
                try:
                    print("stubborn")
                    time.sleep(60)
                except BaseException:
                    continue
            return os.environ.get("GREENROOM_CONTAINER_ID")

        @greenroom.exit()
        def close(self):
            print("exit")

    with app.run():
        pid = Model().f.remote(0)
        call = Model().f.spawn(1)
        cluster.wait_until(lambda: "stubborn" in output.lines())
        call.cancel()
        with pytest.raises(greenroom.InputCancellation):
            call.get(timeout=30)
        assert Model().f.remote(0) != pid
    assert any("did not stop within 1 s" in reason for _, state, reason in output.changes if state == "FAILED")


def test_crash_is_told_with_its_reason(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def die(how):
        import signal

        if how == "exit":
            os._exit(7)
        os.kill(os.getpid(), signal.SIGSEGV)

    with app.run():
        with pytest.raises(greenroom.ContainerCrashed, match="exit status 7"):
            die.remote("exit")
        with pytest.raises(greenroom.ContainerCrashed, match="killed by signal 11"):
            die.remote("signal")


def test_retries(cluster, tmp_path):
    app = greenroom.App("t")
    file = tmp_path / "attempts"

    @app.function(serialized=True, retries=greenroom.Retries(max_retries=3, initial_delay=0.01))
    def flaky(how):
        with open(file, "a") as f:
            f.write("x")
        if len(file.read_text()) < 3:
            if how == "crash":
                os._exit(1)
            raise ValueError("not yet")
        return "ok"

    with app.run():
        assert flaky.remote("raise") == "ok"
        assert file.read_text() == "xxx"
        file.unlink()
        assert flaky.remote("crash") == "ok"


def test_retries_end(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True, retries=greenroom.Retries(max_retries=2, initial_delay=0.01))
    def never():
        raise ValueError("never")

    with app.run(), pytest.raises(ValueError, match="never"):
        never.remote()


def test_concurrent_sync_inputs_use_threads(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=1)
    @greenroom.concurrent(max_inputs=10)
    def meet(n):
        import threading

        barrier = globals().setdefault("barrier", threading.Barrier(5))
        barrier.wait(20)
        return os.environ.get("GREENROOM_CONTAINER_ID")

    with app.run():
        assert len(set(meet.map(range(5)))) == 1


def test_concurrent_async_inputs_are_tasks(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True, max_containers=1)
    @greenroom.concurrent(max_inputs=10)
    class Meet:
        @greenroom.enter()
        def start(self):
            self.here = 0

        @greenroom.method()
        async def meet(self):
            self.here += 1
            while self.here < 5:
                await asyncio.sleep(0.001)
            return os.environ.get("GREENROOM_CONTAINER_ID")

    with app.run():
        calls = [Meet().meet.spawn() for _ in range(5)]
        assert len(set(greenroom.gather(*calls))) == 1


def test_secrets_and_a_clean_environment(cluster, monkeypatch):
    monkeypatch.setenv("LEAKED_FROM_HERE", "yes")
    monkeypatch.setenv("TAKEN", "taken")
    app = greenroom.App("t", secrets=[greenroom.Secret.from_dict({"A": "1"})])

    @app.function(serialized=True, env={"C": "3"}, secrets=[greenroom.Secret.from_local_environ(["TAKEN"])])
    def env():
        return {k: os.environ.get(k) for k in ("A", "C", "TAKEN", "LEAKED_FROM_HERE")}

    with app.run():
        assert env.remote() == {"A": "1", "C": "3", "TAKEN": "taken", "LEAKED_FROM_HERE": None}


def test_what_means_nothing_here_is_said_once(cluster, output):
    app = greenroom.App("t", tags={"team": "a"})

    @app.function(serialized=True, region="us-east")
    def f():
        pass

    @app.function(serialized=True, cloud="aws", region="us-east")
    def g():
        return 1

    with app.run():
        assert g.remote() == 1
    assert output.notices == ["ignored, for it means nothing on one's own machines: cloud=, region=, tags="]


def test_large_arguments_and_results(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def echo(data):
        return data

    data = os.urandom(8 * 1024**2)
    with app.run():
        assert echo.remote(data) == data
        assert echo.remote({"nested": [data]})["nested"][0] == data
        assert list(echo.map([data, b"x", data])) == [data, b"x", data]


def test_one_gibibyte_of_arguments(cluster):
    """Through the server's memory it does not go. (In a plain process a quarter of it shows that, and the long form has all.)"""
    much = 1 << 30 if LONG or cluster.settings.sandbox == "oci" else 1 << 28
    app = greenroom.App("t")

    @app.function(serialized=True)
    def size(data):
        return len(data)

    server_before = resident()
    with app.run():
        assert size.remote(bytes(much)) == much
    assert resident() < server_before + much // 2, "it went in a file, which is gone"


def resident():
    """Bytes of this process, the server's too."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_an_event_loop_is_for_those_that_need_one(cluster):
    app = greenroom.App("t")

    def loaded():
        import sys

        return "asyncio" in sys.modules

    @app.function(serialized=True)
    def plain():
        return loaded()

    @app.function(serialized=True)
    async def coroutine():
        return loaded()

    with app.run():
        assert not plain.remote()
        assert coroutine.remote()


def test_what_cannot_be_pickled(running, cluster):
    import threading

    double, *_ = running
    with pytest.raises(greenroom.SerializationError, match="argument 1"):
        double.remote(threading.Lock())
    app = greenroom.App("t")

    @app.function(serialized=True)
    def lock():
        return threading.Lock()

    with app.run(), pytest.raises(greenroom.SerializationError, match="lock"):
        lock.remote()


def test_fork_in_user_code(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def pool():
        import math
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        with ProcessPoolExecutor(2, mp_context=get_context("fork")) as executor:
            return list(executor.map(math.sqrt, [1, 4, 9]))

    @app.function(serialized=True)
    def fork_and_return():
        if os.fork() == 0:
            return "child"
        os.wait()
        return "parent"

    with app.run():
        assert pool.remote() == [1.0, 2.0, 3.0]
        assert fork_and_return.remote() == "parent"
        assert pool.remote() == [1.0, 2.0, 3.0]


def test_refused_resources(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True, memory=10**9)
    def big():
        return 1

    @app.function(serialized=True, gpu="H100")
    def gpu():
        return 1

    with app.run():
        with pytest.raises(greenroom.InvalidError, match="MiB of memory; this machine has"):
            big.remote()
        if not os.path.exists("/dev/nvidia0"):
            with pytest.raises(greenroom.InvalidError, match="H100"):
                gpu.remote()


def test_sync_method_beside_async_ones_that_will_not_stop_runs_exit_hooks(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True, max_containers=1)
    @greenroom.concurrent(max_inputs=3)
    class Mixed:
        @greenroom.method()
        async def quick(self):
            return os.environ.get("GREENROOM_CONTAINER_ID")

        @greenroom.method()
        def stuck(self):
            print("stuck")
            time.sleep(60)

        @greenroom.exit()
        async def close(self):
            print("exit")

    with app.run():
        pid = Mixed().quick.remote()
        call = Mixed().stuck.spawn()
        cluster.wait_until(lambda: "stuck" in output.lines())
        call.cancel()
        with pytest.raises(greenroom.InputCancellation):
            call.get(timeout=30)
        assert Mixed().quick.remote() != pid
        cluster.wait_until(lambda: "exit" in output.lines())
