"""What it costs to cancel what waits in a queue."""

import asyncio

import pytest

from greenroom.model.settings import Settings
from greenroom.model.spec import FunctionSpec
from greenroom.server import calls as module
from greenroom.server.lifecycle import Lifecycle
from greenroom.server.machine import Machine
from greenroom.server.pools import Function, Pool
from greenroom.testing import HeldClock


class Counting(module.Input):
    """Counts how often anybody looks whether an input is still queued."""

    looks = 0

    @property
    def state(self):
        Counting.looks += 1
        return self._state

    @state.setter
    def state(self, value):
        self._state = value


class Caller:
    def __init__(self):
        self.calls = set()

    def send(self, message, payloads=None):
        pass


@pytest.mark.parametrize("count", [1000, 4000])
def test_it_grows_with_their_number_and_not_its_square(monkeypatch, count):
    monkeypatch.setattr(module, "Input", Counting)

    async def main():
        lifecycle = Lifecycle(HeldClock(), Settings(), Machine(2, 1024, 0), lambda container, event: None)
        spec = FunctionSpec("fu", "ap", "f", False, "m", "f", [])
        pool = Pool(Function(None, spec, b""), b"", lifecycle)
        pool.closed = True  # nothing is to be started
        caller = Caller()
        made = [lifecycle.calls.begin(f"fc-{n}", pool, "", "unary", caller) for n in range(count)]
        for call in made:
            lifecycle.calls.add(call, 0, [b"x"])
        assert len(pool.queue) == count
        Counting.looks = 0
        for call in made:
            lifecycle.calls.cancel(call)
        assert Counting.looks < 30 * count
        assert len(pool.queue) == 0

    asyncio.run(main())
