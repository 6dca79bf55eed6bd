"""Calls that can't be made, and handles to calls."""

import asyncio

import pytest

import greenroom
from greenroom.sdk.channel import loop_channel
from greenroom.testing import Cluster


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as made:
        yield made


def make_app(name="t"):
    app = greenroom.App(name)

    @app.function(serialized=True)
    def double(x):
        return x * 2

    return app, double


def test_a_missing_constructor_argument_is_named():
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class K:
        def __init__(self, a, b=1, *, c):
            self.a = a

        @greenroom.method()
        def m(self):
            return self.a

    with pytest.raises(greenroom.InvalidError, match=r"^K\(…\) lacks a=, c=$"):
        K().m.remote()
    with pytest.raises(greenroom.InvalidError, match="K.*'?c'?"):
        K(1)


def test_a_call_of_an_app_that_does_not_run_says_so(cluster):
    app, _ = make_app()
    _, idle = make_app("idle")

    async def from_loop():
        for way in (idle.remote.aio, idle.spawn.aio):
            with pytest.raises(
                greenroom.ConnectionError, match="double can't be called remotely: its app isn't running"
            ):
                await way(1)
        assert not loop_channel().sinks, "nobody waits any more"

    with app.run():
        for use in (lambda: idle.remote(1), lambda: idle.spawn(1), lambda: list(idle.map([1]))):
            with pytest.raises(
                greenroom.ConnectionError, match="double can't be called remotely: its app isn't running"
            ):
                use()
        asyncio.run(from_loop())


def test_a_call_whose_arguments_can_not_be_bound_leaves_no_sink(cluster, monkeypatch):
    app, double = make_app()

    async def main():
        channel = loop_channel()

        def fail(target):
            raise greenroom.ConnectionError("while binding")

        monkeypatch.setattr(channel, "bind", fail)
        for way in (double.remote.aio, double.spawn.aio):
            with pytest.raises(greenroom.ConnectionError, match="while binding"):
                await way(1)
        assert not channel.sinks

    with app.run():
        asyncio.run(main())


def test_gather_and_from_id_in_both_worlds(cluster):
    app, double = make_app()

    async def main():
        calls = [await double.spawn.aio(n) for n in (1, 2)]
        again = [await greenroom.FunctionCall.from_id.aio(call.object_id) for call in calls]
        assert await greenroom.FunctionCall.gather.aio(*again) == [2, 4]
        assert await greenroom.FunctionCall.gather(*calls) == [2, 4]
        assert await greenroom.gather(*calls) == [2, 4]
        assert greenroom.FunctionCall.from_id(calls[0].object_id).object_id == calls[0].object_id

    with app.run():
        calls = [double.spawn(n) for n in (1, 2)]
        assert greenroom.FunctionCall.gather(*calls) == [2, 4]
        assert greenroom.FunctionCall.from_id(calls[1].object_id).get() == 4
        calls[0].cancel(terminate_containers=False)
        with pytest.raises(NotImplementedError, match="terminate_containers=True"):
            calls[0].cancel(terminate_containers=True)
        with pytest.raises(greenroom.InvalidError, match="no function call's id"):
            greenroom.FunctionCall.from_id("x")
        asyncio.run(main())


def test_methods_by_any_name(cluster):
    app = greenroom.App("t")

    @app.cls(serialized=True)
    class K:
        @greenroom.method()
        def _hidden(self):
            return "hidden"

        @greenroom.method()
        def target(self):
            return "target"

    with app.run():
        assert K()._hidden.remote() == K()._hidden.local() == "hidden"
        assert K().target.remote() == "target"
    for name in ("_nothing", "__nothing__"):
        assert not hasattr(K(), name)
