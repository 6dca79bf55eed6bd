"""SEMANTICS section 4: what is called straight from an ``async def`` is a coroutine, and where else calls are made."""

import asyncio
import inspect
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import greenroom


@pytest.fixture(scope="module")
def app(cluster):
    app = greenroom.App("t")

    @app.function(serialized=True)
    def double(x):
        return x * 2

    @app.function(serialized=True)
    def collect(call_id):
        call = greenroom.FunctionCall.from_id(call_id)
        return call.get(), call.num_inputs(), list(call.iter())

    @app.function(serialized=True)
    def spawn_inside(x):
        return double.spawn(x).object_id

    @app.function(serialized=True)
    def wait_for(file):
        while not os.path.exists(file):
            time.sleep(0.005)

    app.double, app.collect, app.spawn_inside, app.wait_for = double, collect, spawn_inside, wait_for
    with app.run():
        yield app


def test_every_blocking_method_called_straight_from_a_coroutine(app, tmp_path):
    double = app.double

    async def main():
        call = await double.spawn(1)
        several = await double.spawn_map([1, 2])
        waiting = await app.wait_for.spawn(str(tmp_path / "never"))
        made = {
            "remote": double.remote(1),
            "get": call.get(),
            "num_inputs": several.num_inputs(),
            "cancel": waiting.cancel(),
            "for_each": double.for_each([1]),
            "gather": greenroom.gather(call, several),
            "static gather": greenroom.FunctionCall.gather(call),
        }
        assert all(inspect.iscoroutine(value) for value in made.values()), made
        values = {name: await value for name, value in made.items()}
        with pytest.raises(greenroom.InputCancellation):
            await waiting.get()
        return values

    assert asyncio.run(main()) == {
        "remote": 2, "get": 2, "num_inputs": 2, "cancel": None, "for_each": None, "gather": [2, 2], "static gather": [2],
    }  # fmt: skip


def test_comprehensions_and_lambdas_are_seen_through(app):
    remote = app.double.remote

    async def main():
        here = lambda x: remote(x)  # noqa: E731 - a lambda is what is tested
        nested = lambda x: [remote(y) for y in (x,)]  # noqa: E731
        made = [
            *[remote(x) for x in (1,)],
            *{remote(x) for x in (2,)},
            *{x: remote(x) for x in (3,)}.values(),
            *(remote(x) for x in (4,)),
            here(5),
            *[call for x in (6,) for call in nested(x)],
        ]
        return await asyncio.gather(*made)

    assert asyncio.run(main()) == [2, 4, 6, 8, 10, 12]


def test_everything_blocks_in_a_plain_function_below_a_coroutine(app):
    def plain():
        call = app.double.spawn_map([1, 2])
        return app.double.remote(1), call.num_inputs(), call.get(), list(call.iter()), greenroom.gather(call)

    async def main():
        through = lambda: plain()  # noqa: E731
        return plain(), through()

    expected = (2, 2, 2, [2, 4], [2])
    assert asyncio.run(main()) == (expected, expected)


def test_an_async_generator_is_coroutine_code(app):
    async def values():
        yield await app.double.remote(1)
        async for value in app.double.map([2]):
            yield value

    async def main():
        return [value async for value in values()]

    assert asyncio.run(main()) == [2, 4]


def test_a_call_by_its_id_from_another_thread_and_from_a_container(app):
    call = app.double.spawn_map([1, 2])
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: greenroom.FunctionCall.from_id(call.object_id).get(index=1)).result() == 4
    assert app.collect.remote(call.object_id) == (2, 2, [2, 4])
    assert greenroom.FunctionCall.from_id(app.spawn_inside.remote(4)).get() == 8


def test_a_spawned_call_is_the_servers_when_spawn_returns(app, cluster):
    def known(call):
        return cluster.on_server(lambda server: call.object_id in server.lifecycle.calls.by_id)

    async def main():
        return [known(await app.double.spawn(1)) and known(await app.double.spawn_map([1, 2])) for _ in range(20)]

    assert all(known(app.double.spawn(1)) and known(app.double.spawn_map([1, 2])) for _ in range(20))
    assert all(asyncio.run(main()))


def test_spawn_map_that_is_cancelled_as_its_inputs_arrive(app, tmp_path):
    call = app.wait_for.spawn_map([str(tmp_path / "never")] * 3000)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(call.cancel).result()
    assert call.num_inputs() == 3000
    with pytest.raises(greenroom.InputCancellation):
        call.get(index=2999)


def test_spawn_map_whose_task_is_cancelled(app, cluster, tmp_path):
    def unfinished():
        return cluster.on_server(lambda server: [c for c in server.lifecycle.calls.by_id.values() if not c.done])

    async def inputs():
        yield str(tmp_path / "never")
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(app.wait_for.spawn_map.aio(inputs()))
        while not unfinished():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    cluster.wait_until(lambda: not unfinished())
    asyncio.run(main())
    cluster.wait_until(lambda: not unfinished())
