"""SEMANTICS sections 1 and 4: instances, their pools, and what of them travels."""

import asyncio
import os
import threading
from dataclasses import dataclass, field

import pytest

import greenroom


def test_one_pool_however_its_parameter_set_is_written(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Parameters:
        a: int = greenroom.parameter(default=1)
        b: int = greenroom.parameter(default=2)

        @greenroom.method()
        def pid(self):
            return os.environ.get("GREENROOM_CONTAINER_ID"), self.a, self.b

    @app.cls(serialized=True)
    class Constructor:
        def __init__(self, a=1, *, b=2, **more):
            self.values = a, b, more

        @greenroom.method()
        def pid(self):
            return os.environ.get("GREENROOM_CONTAINER_ID"), *self.values

    P, C = Parameters, Constructor
    with app.run():
        for same in (
            [P(), P(a=1), P(a=1, b=2), P(b=2, a=1)],
            [P(a=2, b=3), P(b=3, a=2)],
            [C(), C(1), C(a=1), C(b=2), C(1, b=2)],
            [C(3, x=4, y=5), C(a=3, y=5, x=4)],
        ):
            assert len({str(obj.pid.remote()) for obj in same}) == 1
        assert len(cluster.containers()) == 4


def test_a_method_calls_another_of_its_own_pool(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    @greenroom.concurrent(max_inputs=2)
    class Constructor:
        def __init__(self, size):
            self.size = size

        @greenroom.method()
        def outer(self):
            return (os.environ.get("GREENROOM_CONTAINER_ID"), self.size), self.inner.remote()

        @greenroom.method()
        def inner(self):
            return os.environ.get("GREENROOM_CONTAINER_ID"), self.size

    @app.cls(serialized=True)
    @greenroom.concurrent(max_inputs=2)
    class Parameters:
        size: str = greenroom.parameter(default="small")

        @greenroom.method()
        def outer(self):
            return (os.environ.get("GREENROOM_CONTAINER_ID"), self.size), self.inner.remote()

        @greenroom.method()
        def inner(self):
            return os.environ.get("GREENROOM_CONTAINER_ID"), self.size

    with app.run():
        for obj in (Constructor([1, 2]), Parameters(), Parameters(size="big")):
            own, other = obj.outer.remote()
            assert own == other
        own, other = Constructor([3]).outer.local()
        assert own[0] == os.environ.get("GREENROOM_CONTAINER_ID") != other[0]
        assert own[1] == other[1] == [3]


def test_a_call_that_could_only_wait_for_itself(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True, max_containers=1)
    def f(n):
        return n and f.remote(n - 1)

    @app.cls(serialized=True, max_containers=1)
    class Model:
        size: int = greenroom.parameter(default=1)

        @greenroom.method()
        def outer(self):
            return self.inner.remote()

        @greenroom.method()
        def of_another(self):
            return Model(size=3).inner.remote()

        @greenroom.method()
        def inner(self):
            return self.size

    with app.run():
        assert f.remote(0) == 0
        with pytest.raises(greenroom.InvalidError, match=r"would wait for ever; raise max_containers="):
            f.remote(1)
        with pytest.raises(greenroom.InvalidError, match="would wait for ever"):
            Model(size=2).outer.remote()
        assert Model(size=2).of_another.remote() == 3


def test_a_class_that_needs_arguments_has_no_pool_without(cluster, output):
    app = greenroom.App("t")

    @app.cls(serialized=True, min_containers=1)
    class Model:
        def __init__(self, size):
            self.size = size

        @greenroom.method()
        def f(self):
            return self.size

    with app.run():
        assert Model(3).f.remote() == 3
        assert len(cluster.containers()) == 1
    assert "FAILED" not in [state for _, state, _ in output.changes]


def test_objects_classes_and_methods_by_value(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        p: int = greenroom.parameter(default=1)

        @greenroom.method()
        def f(self):
            return self.p

    @app.function(serialized=True)
    def of_object(obj):
        return obj.f.remote()

    @app.function(serialized=True)
    def of_method(f):
        return f.remote()

    @app.function(serialized=True)
    def of_class(cls, p):
        return cls(p=p).f.remote()

    @app.function(serialized=True)
    def make(p):
        return Model(p=p)

    with app.run():
        assert of_object.remote(Model(p=2)) == 2
        assert of_method.remote(Model(p=3).f) == 3
        assert of_class.remote(Model, 4) == 4
        assert make.remote(5).f.remote() == 5


def test_local_waits_for_the_enter_hooks(output):
    app = greenroom.App("t")
    begun, go_on, seen = threading.Event(), threading.Event(), []

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        def load(self):
            seen.append("enter")
            begun.set()
            go_on.wait(20)
            self.ready = True

        @greenroom.method()
        def f(self):
            return self.ready

    model, results = Model(), []
    threads = [threading.Thread(target=lambda: results.append(model.f.local())) for _ in range(3)]
    threads[0].start()
    begun.wait(20)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert results == [True] * 3
    assert seen == ["enter"]


def test_local_waits_for_async_enter_hooks():
    app = greenroom.App("t")
    seen = []

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        async def load(self):
            seen.append("enter")
            await asyncio.sleep(0)
            self.ready = True

        @greenroom.method()
        async def f(self):
            return self.ready

        @greenroom.method()
        def sync(self):
            return self.ready

        @greenroom.exit()
        async def close(self):
            seen.append("exit")

    async def main():
        model = Model()
        assert await asyncio.gather(*[model.f.local() for _ in range(3)]) == [True] * 3
        assert model.sync.local()
        async with Model() as other:
            assert await other.f.local()
        first = asyncio.create_task((third := Model()).f.local())
        await asyncio.sleep(0)
        with pytest.raises(greenroom.exception.ExecutionError, match="await its .local"):
            third.sync.local()
        assert await first

    asyncio.run(main())
    assert seen == ["enter", "enter", "exit", "enter"]


def test_local_after_a_failed_enter_begins_anew():
    app = greenroom.App("t")
    seen = []

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        def open(self):
            seen.append("open")

        @greenroom.enter()
        def load(self):
            if len(seen) == 1:
                raise ValueError("no model")

        @greenroom.method()
        def f(self):
            return len(seen)

        @greenroom.exit()
        def close(self):
            seen.append("close")

    model = Model()
    with pytest.raises(ValueError, match="no model"):
        model.f.local()
    assert model.f.local() == 2
    seen.clear()
    with pytest.raises(ValueError, match="no model"), Model():
        pass
    assert seen == ["open", "close"]


def test_a_name_that_is_not_there():
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        size: int = greenroom.parameter(default=3)

        @greenroom.enter()
        def load(self):
            self.weights = [1]

        @greenroom.method()
        def predict(self):
            return 1

        def plain(self):
            return self.weights

    with pytest.raises(AttributeError, match=r"Model has no predikt; did you mean predict\?"):
        Model().predikt
    with pytest.raises(AttributeError, match="Model has no weights"):
        Model().weights
    assert Model(size=4).size == 4
    assert Model().plain() == [1]
    with Model() as model:
        assert model.weights == [1]
    assert not hasattr(Model, "predict"), "of an instance only"


def test_generator_methods(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        def load(self):
            self.base = 10

        @greenroom.method()
        def count(self, n):
            for i in range(n):
                yield self.base + i

        @greenroom.method()
        async def acount(self, n):
            for i in range(n):
                await asyncio.sleep(0)
                yield self.base + i

    with app.run():
        assert list(Model().count.remote_gen(3)) == [10, 11, 12]
        assert list(Model().acount.remote_gen(3)) == [10, 11, 12]
        assert list(Model().count.local(2)) == [10, 11]


def test_async_dunder_hooks(cluster, output):
    app = greenroom.App("t")
    with pytest.warns(DeprecationWarning, match=r"@enter\(\)|@exit\(\)"):

        @app.cls(serialized=True)
        class Model:
            async def __aenter__(self):
                await asyncio.sleep(0)
                print("entered")

            async def __aexit__(self, *exception):
                print("exited", exception)

            @greenroom.method()
            def f(self):
                return 1

    with app.run():
        assert Model().f.remote() == 1
    assert output.lines() == ["entered", "exited (None, None, None)"]


def test_a_decorated_dunder_hook_runs_once(cluster, output, recwarn):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class Model:
        @greenroom.enter()
        def __enter__(self):
            print("entered")

        @greenroom.exit()
        def __exit__(self):  # noqa: PLE0302
            print("exited")

        @greenroom.method()
        def f(self):
            return 1

    with app.run():
        assert Model().f.remote() == 1
    assert output.lines() == ["entered", "exited"]
    assert not recwarn.list


def test_old_names_have_their_effect(held):
    app = greenroom.App("t")

    @app.function(serialized=True, keep_warm=1, concurrency_limit=2, container_idle_timeout=30)
    def f(x):
        return os.environ.get("GREENROOM_CONTAINER_ID")

    @app.function(serialized=True, allow_concurrent_inputs=5, concurrency_limit=1)
    def meet(n):
        globals().setdefault("barrier", threading.Barrier(5)).wait(20)
        return os.environ.get("GREENROOM_CONTAINER_ID")

    def idle():
        return [c["state"] for c in held.containers()] == ["IDLE"]

    with app.run():
        held.wait_until(idle)
        barrier = list(f.map(range(50)))
        assert len(set(barrier)) <= 2
        held.wait_until(lambda: {c["state"] for c in held.containers()} == {"IDLE"})
        held.clock.advance(31)
        held.wait_until(idle)
        assert len(set(meet.map(range(5)))) == 1


def test_app_run_inside_a_container(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f():
        with app.run():
            pass

    with app.run(), pytest.raises(greenroom.InvalidError, match="inside a container"):
        f.remote()


def test_exceptions_that_are_hard_to_send(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def f(what):
        error = ValueError("bad")
        if what == "notes":
            error.__notes__ = 3
        elif what == "cause":
            error.add_note("a note")
            error.__cause__ = KeyError("cause")
        elif what == "text":

            class Odd(Exception):
                def __str__(self):
                    raise RuntimeError("no text")

            error = Odd()
            error.lock = threading.Lock()
        raise error

    @app.function(serialized=True)
    def group():
        odd = ValueError("with a lock")
        odd.lock = threading.Lock()
        inner = TypeError("inner")
        inner.__cause__ = KeyError("cause")
        raise ExceptionGroup("gg", [odd, ExceptionGroup("hh", [inner]), OSError(2, "gone")])

    with app.run():
        with pytest.raises(ValueError, match="bad") as caught:
            f.remote("notes")
        assert caught.value.__notes__ == ["3"]
        with pytest.raises(ValueError, match="bad") as caught:
            f.remote("cause")
        assert caught.value.__notes__ == ["a note"]
        assert isinstance(caught.value.__cause__, KeyError)
        with pytest.raises(greenroom.RemoteError, match="its text can't be had"):
            f.remote("text")
        with pytest.raises(ExceptionGroup, match="gg") as caught:
            group.remote()
        odd, inner, gone = caught.value.exceptions
        assert str(odd) == "ValueError: with a lock"
        assert isinstance(inner.exceptions[0].__cause__, KeyError)
        assert gone.errno == 2


def test_a_dataclass_and_slots(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    @dataclass
    class Data:
        a: int = 1
        b: list = field(default_factory=list)

        @greenroom.enter()
        def load(self):
            self.b.append(1)

        @greenroom.method()
        def f(self):
            return self.a, self.b

    @app.cls(serialized=True)
    class Slots:
        __slots__ = ("x",)

        @greenroom.enter()
        def load(self):
            self.x = 4

        @greenroom.method()
        def f(self):
            return self.x

        @greenroom.method()
        def g(self):
            return self.f()

    with app.run():
        assert Data().f.remote() == (1, [1])
        assert Data(b=[2]).f.remote() == (1, [2, 1])
        assert Data(3).f.local() == (3, [1])
        assert Slots().g.remote() == Slots().g.local() == 4
