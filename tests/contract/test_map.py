"""SEMANTICS section 4: ``.map`` and its kin over every kind of inputs, and what becomes of what can't be sent."""

import asyncio
import itertools
import os
import threading
import time

import pytest

import greenroom
from greenroom.sdk import window


@pytest.fixture(scope="module")
def app(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def double(x):
        return x * 2

    @app.function(serialized=True)
    def add(x, y, plus=0):
        return x + y + plus

    @app.function(serialized=True)
    def touch(file):
        open(file, "w").close()

    app.double, app.add, app.touch = double, add, touch
    with app.run():
        yield app


def ways(results):
    """The same map, by ``for`` and by ``async for``: ``ways(lambda: f.map(xs))``."""

    async def consume():
        return [value async for value in results()]

    return list(results()), asyncio.run(consume())


# ---- iterators that take their time ----


def test_iterator_that_ends_after_its_last_output(app):
    taken = threading.Event()

    def inputs():
        yield 1
        taken.wait()

    values = []
    for value in app.double.map(inputs()):
        values.append(value)
        taken.set()
    assert values == [2]


def test_iterator_that_yields_nothing(app):
    assert ways(lambda: app.double.map(iter(()))) == ([], [])
    assert app.double.for_each(iter(())) is None
    assert list(app.add.starmap(iter(()))) == []


def test_for_each_and_starmap_over_iterators_that_end_late(app, tmp_path):
    def until_run(file):
        yield file
        while not os.path.exists(file):
            time.sleep(0.001)

    app.touch.for_each(until_run(str(tmp_path / "a")))
    list(app.touch.starmap((file,) for file in until_run(str(tmp_path / "b"))))
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_iterator_that_feeds_on_the_maps_own_results(app):
    results = []

    def inputs():
        yield 1
        while not results or results[-1] < 100:
            count = len(results)
            while len(results) == count:
                time.sleep(0.001)
            yield results[-1]

    for value in app.double.map(inputs(), order_outputs=False):
        results.append(value)
        if value >= 100:
            break
    assert results == [2, 4, 8, 16, 32, 64, 128]


def test_no_output_is_lost_where_the_iterator_ends_as_they_come(app):
    for length in [0, 1, 2, 3] * 15:
        assert len(list(app.double.map(iter(range(length)), order_outputs=False))) == length


def test_async_map_over_a_blocking_generator_leaves_the_loop_free(app):
    taken = threading.Event()

    def inputs():
        yield 1
        taken.wait()
        yield 2

    async def main():
        values = []
        async for value in app.double.map.aio(inputs()):
            values.append(value)
            taken.set()
        return values

    assert asyncio.run(main()) == [2, 4]


def test_abandoned_map_over_a_blocking_generator(app):
    blocked = threading.Event()

    def inputs():
        yield 1
        blocked.wait()

    def first():
        for value in app.double.map(inputs()):
            return value

    async def first_async():
        async for value in app.double.map(inputs()):
            return value

    assert (first(), asyncio.run(first_async())) == (2, 2)
    blocked.set()


def test_a_collection_that_takes_its_time(app):
    taken = threading.Event()

    class Lazy:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            if index == 1:
                taken.wait()
            if index == 2:
                raise IndexError
            return index

        __iter__ = None

    class Iterable(Lazy):
        def __iter__(self):
            yield 0
            taken.wait()
            yield 1

    values = []
    for value in app.double.map(Iterable()):
        values.append(value)
        taken.set()
    assert values == [0, 2]


def test_context_variables_reach_the_iterator(app):
    import contextvars

    variable = contextvars.ContextVar("variable", default=0)

    def inputs():
        yield variable.get()

    variable.set(21)
    assert ways(lambda: app.double.map(inputs())) == ([42], [42])


# ---- inputs of every kind ----


def test_maps_over_maps(app):
    assert ways(lambda: app.double.map(app.double.map(range(5)))) == ([0, 4, 8, 12, 16], [0, 4, 8, 12, 16])
    assert ways(lambda: app.add.map(app.double.map(range(3)), range(3))) == ([0, 3, 6], [0, 3, 6])
    assert app.double.for_each(app.double.map(range(3))) is None
    assert app.double.spawn_map(app.double.map(range(3))).get(index=2) == 8


def test_async_iterables(app):
    async def pairs():
        for number in range(3):
            yield number, 1

    async def numbers():
        async for number, _ in pairs():
            yield number

    async def main():
        call = await app.double.spawn_map.aio(numbers())
        return (
            [x async for x in app.double.map.aio(numbers())],
            [x async for x in app.add.starmap(pairs(), kwargs={"plus": 10})],
            [x async for x in call.iter()],
            await app.double.for_each.aio(numbers()),
        )

    assert asyncio.run(main()) == ([0, 2, 4], [11, 12, 13], [0, 2, 4], None)
    with pytest.raises(greenroom.InvalidError, match="async for"):
        list(app.double.map(numbers()))

    async def wrong():
        [x async for x in app.add.map(numbers(), range(3))]

    with pytest.raises(greenroom.InvalidError, match="one async iterable"):
        asyncio.run(wrong())


def test_what_is_no_iterable(app):
    for method in (app.double.map, app.double.starmap, app.double.for_each, app.double.spawn_map):
        with pytest.raises(greenroom.InvalidError, match="a int is none"):
            method(5)
    with pytest.raises(greenroom.InvalidError, match="needs an iterable"):
        app.double.map()


@pytest.mark.parametrize("pair", [(range(3), [1, 1, 1]), ([0, 1, 2], {1: 1, 2: 2, 3: 3}), (b"abc", {1, 2, 3})])
def test_several_iterables(app, pair):
    expected = [x + y for x, y in zip(*pair, strict=True)]
    assert ways(lambda: app.add.map(*pair)) == (expected, expected)
    assert ways(lambda: app.add.map(*map(iter, pair))) == (expected, expected)


def test_every_form_is_a_coroutine_as_aio(app, tmp_path):
    async def main():
        spawned = await app.double.spawn.aio(4)
        several = await app.add.spawn_map.aio(range(3), range(3))
        await app.touch.for_each.aio([str(tmp_path / "a")])
        await app.touch.for_each([str(tmp_path / "b")])
        return (
            await spawned.get.aio(),
            await several.num_inputs.aio(),
            await greenroom.gather.aio(spawned, await app.double.spawn(5)),
            await greenroom.gather(spawned, spawned),
            await greenroom.FunctionCall.gather(spawned),
            [x async for x in app.add.starmap.aio([(1, 2), (3, 4)])],
        )

    assert asyncio.run(main()) == (8, 3, [8, 10], [8, 8], [8], [3, 7])
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


# ---- a second pass ----


def test_results_are_taken_once(app):
    results = app.double.map(range(3))
    assert list(results) == [0, 2, 4]
    with pytest.raises(greenroom.InvalidError, match="keep them in a list"):
        list(results)
    assert next(results, "over") == "over"

    results = app.double.map(range(3))
    assert next(results) == 0
    assert list(results) == [2, 4]

    async def main():
        results = app.double.map(range(3))
        first = [x async for x in results]
        with pytest.raises(greenroom.InvalidError, match="keep them in a list"):
            [x async for x in results]
        with pytest.raises(greenroom.InvalidError, match="keep them in a list"):
            list(results)
        return first

    assert asyncio.run(main()) == [0, 2, 4]


# ---- inputs that can't travel ----

LOCK = threading.Lock()


@pytest.mark.parametrize("kind", [list, iter], ids=["list", "iterator"])
def test_input_that_cannot_be_pickled(app, kind):
    def run(**options):
        return ways(lambda: app.double.map(kind([1, LOCK, 3]), **options))

    with pytest.raises(greenroom.SerializationError, match=r"input 1 .*double.map.*argument 1 \(a lock\)"):
        run()
    for ordered in (True, False):
        for values in run(return_exceptions=True, order_outputs=ordered):
            failed = [value for value in values if isinstance(value, Exception)]
            kept = [value for value in values if value not in failed]
            assert (kept if ordered else sorted(kept)) == [2, 6]
            assert isinstance(failed[0], greenroom.SerializationError)
            assert not ordered or values[1] is failed[0]


def test_only_inputs_that_cannot_be_pickled(app):
    for inputs in ([LOCK] * 3, iter([LOCK] * 3)):
        assert len(list(app.double.map(inputs, return_exceptions=True))) == 3
    app.double.for_each(iter([LOCK]), ignore_exceptions=True)


def test_spawn_map_of_what_cannot_be_pickled(app, cluster):
    def calls():
        return cluster.on_server(lambda server: [c for c in server.lifecycle.calls.by_id.values() if not c.done])

    for inputs in ([1, LOCK], iter([1, LOCK])):
        with pytest.raises(greenroom.SerializationError, match="input 1"):
            app.double.spawn_map(inputs)
    with pytest.raises(greenroom.SerializationError, match="input 1"):
        asyncio.run(app.double.spawn_map.aio([1, LOCK]))
    cluster.wait_until(lambda: not calls())


def test_iterator_that_raises(app):
    def inputs():
        yield 1
        raise KeyError("input")

    for options in ({}, {"return_exceptions": True}):
        with pytest.raises(KeyError, match="input"):
            list(app.double.map(inputs(), **options))
    with pytest.raises(KeyError, match="input"):
        ways(lambda: app.double.map(itertools.islice(inputs(), 5)))
    with pytest.raises(KeyError, match="input"):
        app.double.spawn_map(inputs())
    with pytest.raises(KeyError, match="input"):
        asyncio.run(app.double.spawn_map.aio(inputs()))


# ---- how far inputs may be ahead ----


def test_large_inputs_of_an_iterator_wait_for_the_consumer(cluster, tmp_path):
    app = greenroom.App("t")
    go = str(tmp_path / "go")

    # One: of two, the faster would end inputs past one that the slower still has, and those are no longer ahead.
    @app.function(serialized=True, max_containers=1)
    def size(data):
        while not os.path.exists(go):
            time.sleep(0.005)
        return len(data)

    each, taken, ahead = 1024**2, [], []
    enough = window.BYTES // each

    def inputs():
        for number in range(3 * enough):
            ahead.append(number - len(taken))
            if len(ahead) == enough // 2:
                open(go, "w").close()
            yield bytes(each)

    with app.run():
        for value in size.map(inputs()):
            taken.append(value)
    assert taken == [each] * 3 * enough
    assert max(ahead) <= enough + 1


def test_results_do_not_pile_up_behind_a_slow_consumer(cluster):
    app = greenroom.App("t")
    each = 300_000

    @app.function(serialized=True, max_containers=2)
    def zeros(number):
        return bytes(each)

    pulled = itertools.count()
    with app.run():
        results = iter(zeros.map(pulled, order_outputs=False))
        for _ in range(500):
            next(results)
        cluster.wait_until(lambda: {c["state"] for c in cluster.containers()} == {"IDLE"})
        held = cluster.on_server(lambda server: sum(visitor.connection.backlog for visitor in server.visitors))
        assert held <= window.BYTES
        results.close()


def test_large_results_behind_a_slow_first_input(cluster, tmp_path):
    """Each of them is a file descriptor, and a process may have 1,024 of these."""
    app = greenroom.App("t")
    go = str(tmp_path / "go")
    each = 1024**2 + 1

    @app.function(serialized=True, max_containers=2)
    def zeros(number):
        while number == 0 and not os.path.exists(go):
            time.sleep(0.005)
        return bytes(each)

    def release():
        def busy():
            return cluster.on_server(
                lambda server: [
                    len(c.running)
                    for c in server.lifecycle.containers.live()
                    if c.entered and c.pool.function.spec.name == "zeros"
                ]
            )

        cluster.wait_until(lambda: sorted(busy()) == [0, 1])
        open(go, "w").close()

    with app.run():
        thread = threading.Thread(target=release)
        thread.start()
        sizes = [len(value) for value in zeros.map(range(700))]
        thread.join()
    assert sizes == [each] * 700
