import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import greenroom
from greenroom.testing import Cluster
from tests.conftest import assert_nothing_left


@pytest.fixture
def cluster():
    with Cluster() as made:
        yield made


def make_double():
    app = greenroom.App("t")

    @app.function(serialized=True)
    def double(x):
        return x * 2

    return app, double


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_threads_that_live_on_do_not_hold_the_server(home):
    app, double = make_double()
    with ThreadPoolExecutor(3) as pool:
        with app.run():
            assert list(pool.map(double.remote, range(6))) == [0, 2, 4, 6, 8, 10]
        assert_nothing_left(home)
        with app.run():
            assert list(pool.map(double.remote, range(3))) == [0, 2, 4]
        assert_nothing_left(home)


def test_loops_and_their_threads_do_not_hold_the_server(home):
    app, double = make_double()

    async def main():
        async with app.run():
            assert await asyncio.to_thread(double.remote, 1) == 2
            assert await double.remote.aio(2) == 4
        assert_nothing_left(home)

    asyncio.run(main())


def test_a_loop_that_stands_still_does_not_hold_the_server(home):
    app, double = make_double()
    with asyncio.Runner() as runner:
        with app.run():
            assert runner.run(double.remote.aio(1)) == 2
        assert_nothing_left(home)
        with app.run():
            assert runner.run(double.remote.aio(2)) == 4


def test_map_in_another_thread_ends_with_the_session(home):
    app, double = make_double()
    ended = []

    def consume(results):
        try:
            list(results)
        except (greenroom.ConnectionError, greenroom.InputCancellation) as error:
            ended.append(error)

    with app.run():
        results = iter(double.map(range(10**9)))
        assert next(results) == 0
        thread = threading.Thread(target=consume, args=(results,))
        thread.start()
    thread.join()
    assert ended


@pytest.mark.parametrize("inputs", [lambda: range(10**9), lambda: iter(range(10**9))], ids=["range", "iterator"])
def test_maps_that_were_left_do_not_hold_the_server(home, inputs):
    app, double = make_double()

    async def leave():
        async for value in double.map(inputs()):
            return value

    with app.run():
        for value in double.map(inputs()):
            assert value == 0
            break
        begun = iter(double.map(inputs()))
        assert (next(begun), asyncio.run(leave())) == (0, 0)
        double.map(inputs())
    assert_nothing_left(home)
    with pytest.raises((greenroom.ConnectionError, greenroom.InputCancellation)):
        list(begun)


def test_map_that_fails_over_a_large_iterator(home):
    app, _ = make_double()

    @app.function(serialized=True)
    def fail(x):
        raise ValueError(x)

    with pytest.raises(ValueError, match="0"), app.run():
        list(fail.map(iter(range(10**9))))
    assert_nothing_left(home)


def test_a_loop_leaves_no_descriptor(cluster):
    app, double = make_double()
    with app.run():
        asyncio.run(double.remote.aio(0))
        asyncio.run(double.remote.aio(0))
        before = descriptors()
        for number in range(20):
            assert asyncio.run(double.remote.aio(number)) == 2 * number
        assert descriptors() <= before
