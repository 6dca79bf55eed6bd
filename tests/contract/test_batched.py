"""``@batched``: callers give single inputs, the function gets lists. The server's clock is held: a batch waits for nothing else."""

import asyncio
import os
import threading
import time

import pytest

import greenroom
from tests.contract.conftest import settings_of
from tests.contract.waiting import wait_for_file


@pytest.fixture(scope="module", params=["process", "crun"])
def settings(request, _shared):
    """As for the whole suite, but for runc: what starts a container is nothing to what this is about."""
    return settings_of(request.param, _shared)


def states(held):
    return [c["state"] for c in held.containers()]


def queued(held):
    """Inputs that no container has."""
    return held.on_server(
        lambda server: sum(
            i.container is None for call in server.lifecycle.calls.by_id.values() for i in call.inputs.values()
        )
    )


def doubling(app, size=4, **options):
    """A function that says which inputs came to it together."""

    @app.function(serialized=True, **options)
    @greenroom.batched(max_batch_size=size, wait_ms=1000)
    def double(xs):
        return [(2 * x, xs) for x in xs]

    return double


def test_full_batches_wait_for_nothing(held):
    app = greenroom.App("t")
    double = doubling(app, max_containers=1)
    with app.run():
        assert list(double.map(range(8))) == [(2 * x, [0, 1, 2, 3] if x < 4 else [4, 5, 6, 7]) for x in range(8)]


def test_a_batch_that_is_not_full_goes_when_its_first_input_has_waited(held):
    app = greenroom.App("t")
    double = doubling(app, min_containers=1)
    with app.run():
        held.wait_until(lambda: states(held) == ["IDLE"])
        first = double.spawn(1)
        held.clock.advance(0.6)
        second = double.spawn(2)
        held.clock.advance(0.399)
        assert (states(held), queued(held)) == (["IDLE"], 2)
        held.clock.advance(0.001)
        assert greenroom.gather(first, second) == [(2, [1, 2]), (4, [1, 2])]
        third = double.spawn(xs=3)
        held.clock.advance(0.999)
        assert queued(held) == 1, "the next one's time is its own"
        held.clock.advance(0.001)
        assert third.get(timeout=60) == (6, [3])


def test_what_has_waited_for_a_start_waits_no_longer(held):
    app = greenroom.App("t")
    double = doubling(app)
    with app.run():
        call = double.spawn(1)
        held.clock.advance(1)
        assert call.get(timeout=60) == (2, [1])


def test_what_has_waited_for_a_batch_goes_on_waiting_in_the_next_version(held):
    def deploy():
        app = greenroom.App("batches")
        doubling(app, min_containers=1, name="double")
        app.deploy()
        held.wait_until(lambda: states(held) == ["IDLE"])

    deploy()
    call = greenroom.Function.from_name("batches", "double").spawn(1)
    held.clock.advance(0.6)
    deploy()
    assert queued(held) == 1
    held.clock.advance(0.4)
    assert call.get(timeout=60) == (2, [1])


def test_a_container_goes_whose_batch_did_not_come_about(held):
    app = greenroom.App("t")
    double = doubling(app, scaledown_window=0.5)
    with app.run():
        call = double.spawn(1)
        held.wait_until(lambda: states(held) == ["IDLE"])
        held.clock.advance(0.5)
        assert states(held) == ["IDLE"], "it is needed"
        call.cancel()
        held.clock.advance(0.5)
        held.wait_until(lambda: not states(held))


def test_every_way_to_call(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    @greenroom.batched(max_batch_size=3, wait_ms=1)
    def join(lefts, rights):
        return [f"{left}{right}" for left, right in zip(lefts, rights, strict=True)]

    @app.function(serialized=True)
    def inside(x):
        return join.remote(x, "i")

    with app.run():
        assert join.remote("a", rights="b") == "ab"
        assert join.remote(rights="d", lefts="c") == "cd"
        assert list(join.map("abcd", "wxyz")) == ["aw", "bx", "cy", "dz"]
        assert list(join.map("ab", kwargs={"rights": "!"})) == ["a!", "b!"]
        assert list(join.starmap([("a", "b"), ("c", "d")])) == ["ab", "cd"]
        assert join.spawn("e", "f").get(timeout=60) == "ef"
        assert list(join.spawn_map("ab", "cd").iter()) == ["ac", "bd"]
        assert inside.remote("a") == "ai"
        assert join.local(["a", "b"], ["c", "d"]) == ["ac", "bd"]
        assert join(["a"], ["b"]) == ["ab"]


@pytest.mark.parametrize("kind", ["sync", "async", "sync beside an async hook"])
def test_a_method_of_a_class(held, output, kind):
    app = greenroom.App("t")

    class Base:
        factor: int = greenroom.parameter(default=2)

        @greenroom.exit()
        def close(self):
            print("closed")

    if kind != "sync":

        class Base(Base):
            @greenroom.enter()
            async def open(self):
                self.loop = asyncio.get_running_loop()

    if kind == "async":

        @app.cls(serialized=True)
        class Model(Base):
            @greenroom.batched(max_batch_size=2, wait_ms=1000)
            async def scale(self, xs):
                assert asyncio.get_running_loop() is self.loop
                await asyncio.sleep(0)
                return [self.factor * x for x in xs]
    else:

        @app.cls(serialized=True)
        class Model(Base):
            @greenroom.method()
            @greenroom.batched(max_batch_size=2, wait_ms=1000)
            def scale(self, xs):
                asyncio.run(asyncio.sleep(0))
                return [self.factor * x for x in xs]

    with app.run():
        assert list(Model().scale.map([1, 2])) == [2, 4]
        assert list(Model(factor=3).scale.map([1, 2])) == [3, 6]
        assert list(Model().scale.map([3, 4])) == [6, 8]
    assert output.lines() == ["closed", "closed"]


def test_calls_that_are_written_in_other_ways_share_a_batch_where_they_can(held):
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=1)
    @greenroom.batched(max_batch_size=6, wait_ms=1000)
    def f(xs, ys=None, *, zs=None):
        return [(xs, ys, zs)] * len(xs)

    with app.run():
        calls = [f.spawn(1, 2), f.spawn(3), f.spawn(ys=5, xs=4), f.spawn(6, zs=7), f.spawn(1, 2, 3), f.spawn(xs=8)]
        two, one = ([1, 4], [2, 5], None), ([3, 8], None, None)
        for call, result in zip(calls, [two, one, two, ([6], None, [7]), None, one], strict=True):
            if result:
                assert call.get(timeout=60) == result
            else:
                with pytest.raises(TypeError, match="takes from 1 to 2 positional arguments but 3 were given"):
                    call.get(timeout=60)


def test_what_is_no_result_for_each_input_is_one_for_none(held):
    app = greenroom.App("t")

    @app.function(serialized=True)
    @greenroom.batched(max_batch_size=3, wait_ms=1000)
    def f(xs):
        return eval(xs[0])

    with app.run():
        for returned, said in (
            ("None", "None"),
            ("(1, 2, 3)", "a tuple"),
            ("[1, 2]", "a list of 2"),
            ("[1, 2, 3, 4]", "a list of 4"),
            ("{1: 2}", "a dict"),
            ("'abc'", "a str"),
        ):
            text = f"f is @batched and returned {said}: it was called with lists of 3, and must return a list of 3, "
            raised = list(f.map([returned, "", ""], return_exceptions=True))
            assert [type(error) for error in raised] == [greenroom.exception.InvalidError] * 3
            assert all(str(error).startswith(text) for error in raised)


def test_an_exception_is_every_inputs_and_what_cannot_travel_its_own(held):
    app = greenroom.App("t")

    class Unloadable:
        def __reduce__(self):
            return int, ("no number",)

    @app.function(serialized=True)
    @greenroom.batched(max_batch_size=3, wait_ms=1000)
    def f(xs):
        if "raise" in xs:
            raise KeyError(xs)
        return [threading.Lock() if x == "lock" else x for x in xs]

    with app.run():
        raised = list(f.map(["a", "raise", "b"], return_exceptions=True))
        assert [repr(error) for error in raised] == ["KeyError(['a', 'raise', 'b'])"] * 3
        a, lock, b = f.map(["a", "lock", "b"], return_exceptions=True)
        assert (a, type(lock).__name__, b) == ("a", "SerializationError", "b")
        a, unloadable, b = f.map(["a", Unloadable(), "b"], return_exceptions=True)
        assert (a, type(unloadable).__name__, b) == ("a", "DeserializationError", "b")
        alone = f.spawn(Unloadable())
        held.wait_until(lambda: queued(held) == 1)
        held.clock.advance(1)
        with pytest.raises(greenroom.exception.DeserializationError, match="no number"):
            alone.get(timeout=60)


def test_a_cancelled_input_leaves_its_batch_before_it_begins(held):
    app = greenroom.App("t")
    double = doubling(app)
    with app.run():
        assert list(double.map(range(4))) == [(2 * x, [0, 1, 2, 3]) for x in range(4)]
        first, *calls = [double.spawn(x) for x in (4, 5, 6)]
        held.wait_until(lambda: queued(held) == 3)
        first.cancel()
        with pytest.raises(greenroom.exception.InputCancellation):
            first.get(timeout=60)
        calls.append(double.spawn(7))
        held.wait_until(lambda: queued(held) == 3)
        calls.append(double.spawn(8))
        assert greenroom.gather(*calls) == [(2 * x, [5, 6, 7, 8]) for x in (5, 6, 7, 8)]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_cancelled_input_of_a_batch_that_runs_costs_no_other_its_result(held, output, tmp_path, asynchronous):
    app = greenroom.App("t")

    def body(xs, path):
        print("begins")
        wait_for_file(path[0])
        return xs

    async def asynchronous_body(xs, path):
        print("begins")
        while not os.path.exists(path[0]):
            await asyncio.sleep(0.005)
        return xs

    function = asynchronous_body if asynchronous else body
    f = app.function(serialized=True, max_containers=1)(greenroom.batched(max_batch_size=3, wait_ms=1000)(function))
    with app.run():
        calls = [f.spawn(x, str(tmp_path / "go")) for x in range(3)]
        held.wait_until(lambda: output.lines() == ["begins"])
        calls[1].cancel()
        with pytest.raises(greenroom.exception.InputCancellation):
            calls[1].get(timeout=60)  # while the batch runs on
        (tmp_path / "go").touch()
        assert greenroom.gather(calls[0], calls[2]) == [0, 2]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_batch_that_nobody_wants_any_more_is_interrupted(held, output, asynchronous):
    app = greenroom.App("t")

    def body(xs):
        try:
            print("begins")
            time.sleep(600)
        finally:
            print("cleaned up")

    async def asynchronous_body(xs):
        try:
            print("begins")
            await asyncio.sleep(600)
        finally:
            print("cleaned up")

    function = asynchronous_body if asynchronous else body
    f = app.function(serialized=True, max_containers=1)(greenroom.batched(max_batch_size=2, wait_ms=1000)(function))
    with app.run():
        calls = [f.spawn(x) for x in range(2)]
        held.wait_until(lambda: output.lines() == ["begins"])
        for call in calls:
            call.cancel()
            with pytest.raises(greenroom.exception.InputCancellation):
                call.get(timeout=60)
        held.wait_until(lambda: states(held) == ["IDLE"] and output.lines() == ["begins", "cleaned up"])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_batch_past_its_timeout(held, output, tmp_path, asynchronous):
    """All of its inputs began at one time; they are tried again once its code has stopped, and not before."""
    app = greenroom.App("t")

    def body(xs, paths):
        print("begins", *xs)
        try:
            wait_for_file(paths[0])
        finally:
            print("ends")
        return xs

    async def asynchronous_body(xs, paths):
        print("begins", *xs)
        try:
            while not os.path.exists(paths[0]):
                await asyncio.sleep(0.005)
        finally:
            print("ends")
        return xs

    f = app.function(serialized=True, name="f", timeout=10, retries=greenroom.Retries(max_retries=1, initial_delay=0))(
        greenroom.batched(max_batch_size=2, wait_ms=1000)(asynchronous_body if asynchronous else body)
    )
    with app.run():
        calls = [f.spawn(x, str(tmp_path / "go")) for x in range(2)]
        held.wait_until(lambda: output.lines() == ["begins 0 1"])
        held.clock.advance(10)
        held.wait_until(lambda: queued(held) == 2)
        held.clock.advance(0)
        held.wait_until(lambda: len(output.lines()) == 3)
        (tmp_path / "go").touch()
        assert greenroom.gather(*calls) == [0, 1]
        held.wait_until(lambda: output.lines() == ["begins 0 1", "ends"] * 2)
        (tmp_path / "go").unlink()
        calls = [f.spawn(x, str(tmp_path / "go")) for x in range(2)]
        held.wait_until(lambda: len(output.lines()) == 5)
        held.clock.advance(10)
        held.wait_until(lambda: queued(held) == 2)
        held.clock.advance(0)
        held.wait_until(lambda: len(output.lines()) == 7)
        held.clock.advance(10)
        for call in calls:
            with pytest.raises(greenroom.FunctionTimeoutError, match="f ran past its timeout of 10 s"):
                call.get(timeout=60)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_batch_that_will_not_stop_costs_its_container(held, output, asynchronous):
    app = greenroom.App("t")

    def body(xs):
        if xs[0]:
            return xs
        print("begins")
        while True:
            try:
                time.sleep(600)
            except BaseException:
                continue

    async def asynchronous_body(xs):
        if xs[0]:
            return xs
        print("begins")
        while True:
            try:
                await asyncio.sleep(600)
            except BaseException:
                continue

    f = app.function(serialized=True, timeout=10)(
        greenroom.batched(max_batch_size=2, wait_ms=1000)(asynchronous_body if asynchronous else body)
    )
    with app.run():
        calls = [f.spawn(0) for _ in range(2)]
        held.wait_until(lambda: output.lines() == ["begins"])
        held.clock.advance(10)
        for call in calls:
            with pytest.raises(greenroom.FunctionTimeoutError):
                call.get(timeout=60)
        held.wait_until(lambda: [r["reason"] for r in held.ended()])
        (record,) = held.ended()
        assert "did not stop within 1 s" in record["reason"]
        assert list(f.map([1, 2])) == [1, 2]


def test_a_crash_is_an_attempt_of_every_input_of_the_batch_and_of_no_other(held, tmp_path):
    app = greenroom.App("t")
    ran = str(tmp_path / "ran")

    @app.function(serialized=True, max_containers=1)
    @greenroom.batched(max_batch_size=2, wait_ms=1000)
    def f(xs):
        with open(ran, "a") as file:
            file.write("".join(map(str, xs)) + "\n")
        if 3 in xs:
            os._exit(3)
        return xs

    with app.run():
        outputs = list(f.map(range(6), return_exceptions=True))
    assert outputs[:2] == [0, 1]
    assert [type(output) for output in outputs[2:4]] == [greenroom.exception.ContainerCrashed] * 2
    assert outputs[4:] == [4, 5]
    assert (tmp_path / "ran").read_text().split() == ["01", "23", "45"]


def test_a_stopped_container_finishes_its_batch(held, output, tmp_path):
    app = greenroom.App("t")

    @app.cls(serialized=True, max_containers=1)
    class Model:
        @greenroom.batched(max_batch_size=2, wait_ms=1000)
        def f(self, xs, paths):
            print("begins")
            wait_for_file(paths[0])
            return xs

        @greenroom.exit()
        def close(self):
            print("closed")

    with app.run():
        calls = [Model().f.spawn(x, str(tmp_path / "go")) for x in range(3)]
        held.wait_until(lambda: output.lines() == ["begins"])
        (container,) = held.on_server(lambda server: list(server.lifecycle.containers.live()))
        held.on_server(lambda server: server.lifecycle.stop(container, "for a test"))
        assert states(held) == ["DRAINING"]
        held.clock.advance(1)
        (tmp_path / "go").touch()
        assert greenroom.gather(*calls) == [0, 1, 2], "the third went to another container"
    assert output.lines() == ["begins", "closed"] * 2


def test_an_app_that_ends_cancels_batch_and_queue(held, output):
    app = greenroom.App("t")

    @app.cls(serialized=True, max_containers=1)
    class Model:
        @greenroom.batched(max_batch_size=2, wait_ms=1000)
        def f(self, xs):
            try:
                print("begins")
                time.sleep(600)
            finally:
                print("cleaned up")

        @greenroom.exit()
        def close(self):
            print("closed")

    with app.run():
        for x in range(3):
            Model().f.spawn(x)
        held.wait_until(lambda: output.lines() == ["begins"])
    assert output.lines() == ["begins", "cleaned up", "closed"]


def test_busy_containers_take_no_second_batch_and_idle_ones_share_none(held, tmp_path):
    app = greenroom.App("t")

    @app.function(serialized=True, min_containers=2, max_containers=3)
    @greenroom.batched(max_batch_size=4, wait_ms=1000)
    def f(xs, paths):
        wait_for_file(paths[0])
        return [os.environ["GREENROOM_CONTAINER_ID"]] * len(xs)

    go, go_too = str(tmp_path / "go"), str(tmp_path / "go too")
    with app.run():
        held.wait_until(lambda: states(held) == ["IDLE"] * 2)
        first = [f.spawn(x, go) for x in range(3)]
        held.clock.advance(1)
        assert states(held) == ["RUNNING", "IDLE"]
        second = [f.spawn(x, go) for x in range(2)]
        held.clock.advance(1)
        assert states(held) == ["RUNNING", "RUNNING"], "the room in the first one's batch is none"
        third = f.spawn(0, go_too)
        held.wait_until(lambda: len(held.containers()) == 3 and states(held)[2] == "IDLE")
        held.clock.advance(1)
        assert states(held) == ["RUNNING"] * 3
        (tmp_path / "go").touch()
        ids = [set(greenroom.gather(*calls)) for calls in (first, second)]
        (tmp_path / "go too").touch()
        assert len({*ids[0], *ids[1], third.get(timeout=60)}) == 3


def test_single_use_is_one_batch(held):
    app = greenroom.App("t")

    @app.function(serialized=True, single_use_containers=True)
    @greenroom.batched(max_batch_size=2, wait_ms=1000)
    def f(xs):
        return [os.environ["GREENROOM_CONTAINER_ID"]] * len(xs)

    with app.run():
        one, same, other, again = f.map(range(4))
        assert one == same != other == again
        held.wait_until(lambda: not held.containers())


def test_a_batch_of_large_inputs_is_whole(held):
    """What doesn't fit into one frame, and what comes beside it as a file."""
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=1)
    @greenroom.batched(max_batch_size=80, wait_ms=1000)
    def f(xs):
        return [(len(xs), x[:1], len(x)) for x in xs]

    sizes = [*([500_000] * 40), *([1_500_000] * 40)]
    with app.run():
        outputs = list(f.spawn_map([bytes([index]) * size for index, size in enumerate(sizes)]).iter())
    assert {output[0] for output in outputs} == {80}
    assert outputs == [(80, bytes([index]), size) for index, size in enumerate(sizes)]


def test_a_batch_of_many(held):
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=1)
    @greenroom.batched(max_batch_size=1000, wait_ms=1000)
    def f(xs):
        return [len(xs)] * len(xs)

    with app.run():
        assert set(f.spawn_map(range(3000)).iter()) == {1000}


def test_a_batch_of_one(held, output):
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=1)
    @greenroom.batched(max_batch_size=1, wait_ms=1000)
    def f(xs):
        if xs == [2]:
            os._exit(1)
        return [xs]

    with app.run():
        one, crashed, three = f.map([1, 2, 3], return_exceptions=True)
        assert (one, type(crashed), three) == ([1], greenroom.exception.ContainerCrashed, [3])


def test_a_batched_function_that_waits_for_itself_says_so(held, output):
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=1)
    @greenroom.batched(max_batch_size=2, wait_ms=0)
    async def f(ns):
        return [await f.remote.aio(n - 1) if n else 0 for n in ns]

    with app.run():
        assert f.remote(0) == 0
        call = f.spawn(1)
        held.wait_until(lambda: output.notices)
        call.cancel()
    (text,) = output.notices
    assert text == "f calls itself while every container that max_containers=1 allows is busy: it waits for one"


def test_which_input_it_is_that_runs(held):
    app = greenroom.App("t")

    @app.function(serialized=True)
    @greenroom.batched(max_batch_size=2, wait_ms=1000)
    def f(xs):
        return [greenroom.current_input_id()] * len(xs)

    with app.run():
        calls = [f.spawn(x) for x in range(2)]
        first, same = greenroom.gather(*calls)
        assert first == same
        assert first.startswith("in-")
