"""Inputs that are in the store alone come into memory once each, however many ask for them at the same time."""

from types import SimpleNamespace

import pytest

from greenroom.server.calls import Calls
from greenroom.server.durable import WINDOW, Durable
from greenroom.server.store import calls as rows
from greenroom.server.store.file import NAME
from greenroom.testing import HeldClock
from tests.server.store.conftest import Store
from tests.server.test_calls import Queue

COUNT = 3 * WINDOW


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / NAME)
    yield made
    made.close()


@pytest.fixture
def durable(store):
    store.write(rows.add_call, rows.CallRow("fc-1", "ap", "fu", "", "", "spawn", COUNT, 0.0))
    store.write(rows.add_inputs, "fc-1", 0, [b"%d" % index for index in range(COUNT)])
    lifecycle = SimpleNamespace(calls=Calls(HeldClock(), lambda item: None), clock=HeldClock())
    return Durable(SimpleNamespace(loop=store.loop, lifecycle=lifecycle), store.database)


@pytest.fixture
def call(durable):
    """None of whose inputs are here."""
    made = durable._calls.begin("fc-1", Queue(), "", "spawn", None)
    made.keeper, made.count, made.added, made.stored = durable, COUNT, COUNT, COUNT
    return made


def test_by_several_at_once(store, durable, call):
    reached = []
    for index in (COUNT - 2, 7, WINDOW):
        durable.load_until(call, index, lambda index=index: reached.append((index, call.loaded_to)))
    durable._refill(call)
    store.until(lambda: len(reached) == 3)
    assert all(loaded >= index for index, loaded in reached), reached
    assert [item.index for item in call.pool.items] == list(range(COUNT))
    assert [bytes(item.payload) for item in call.pool.items] == [b"%d" % index for index in range(COUNT)]
    assert call.stored == 0


def test_one_that_is_cancelled_meanwhile_keeps_nobody_waiting(store, durable, call):
    reached = []
    durable.load_until(call, COUNT - 1, lambda: reached.append(call.loaded_to))
    durable._calls.cancel(call)
    store.until(lambda: reached)
    assert call.pool.items == []
