"""Inputs that are in the store alone come into memory once each, however many ask for them at the same time; and what is noted
of them there is, before anybody is told so."""

import asyncio
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from greenroom.model.errors import StoreError
from greenroom.server import durable as durable_module
from greenroom.server.calls import Calls
from greenroom.server.durable import WINDOW, Durable
from greenroom.server.store import calls as rows
from greenroom.server.store import database
from greenroom.server.store.file import NAME
from greenroom.testing import HeldClock
from greenroom.wire.messages import Collect, Done
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


def refuse_once(store, monkeypatch, what, refused):
    """The next change, or query, fails, and is noted."""
    put = getattr(store.database, what)

    def refuse(work, then):
        refused.append(work)
        monkeypatch.setattr(store.database, what, put)
        failed: Future[None] = Future()
        failed.set_exception(StoreError("the disk is full"))
        store.loop.call_soon(then, failed)

    monkeypatch.setattr(store.database, what, refuse)


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


def test_an_attempt_that_failed_while_nothing_could_be_kept_is_kept_before_anybody_is_told(
    store, durable, call, monkeypatch
):
    monkeypatch.setattr(durable_module, "RETRY", 0.05)
    durable.load_until(call, 0, lambda: None)
    store.until(lambda: call.inputs)
    item, told, refused = call.inputs[0], [], []
    item.attempt, item.tried = 1, "ta-1 5"
    refuse_once(store, monkeypatch, "write", refused)
    durable.failed(item)
    durable.when_kept(lambda: store.database.read(lambda c: rows.inputs_of(c, "fc-1", -1, 1), told.append))
    store.until(lambda: told)
    assert len(refused) == 1
    (row,) = told[0].result()
    assert (row.idx, row.attempt, row.tried) == (0, 1, "ta-1 5")


def kept_by_then(store, durable):
    """How many outputs are kept when it is said that all are."""
    told = []
    durable.when_kept(lambda: store.database.read(lambda c: rows.progress_of(c, "fc-1").ended, told.append))
    store.until(lambda: told)
    return told[0].result()


def test_a_result_that_could_not_be_kept_is_kept_before_its_container_is_told(store, durable, call, monkeypatch):
    monkeypatch.setattr(durable_module, "RETRY", 0.05)
    refuse_once(store, monkeypatch, "write", refused := [])
    durable.ended(call, [[0, "ok", ""]], [b"x"])
    store.until(lambda: refused and not durable._keeping.pending)  # and its container ends
    assert kept_by_then(store, durable) == 1


def test_a_result_that_is_on_its_way_to_the_disk_is_kept_before_its_container_is_forgotten(store, durable, call):
    told = []
    with store.held():
        durable.ended(call, [[0, "ok", ""]], [b"x"])
        store.until(lambda: store.database.pending == 2)
        durable.when_kept(lambda: told.append("too soon"))
        store.loop.run_until_complete(asyncio.sleep(0))
        assert told == []
    assert kept_by_then(store, durable) == 1


class Waits:
    """Who collects a call."""

    backlog = 0

    def __init__(self):
        self.calls, self.said = set(), []

    def send(self, message, payloads=None):
        self.said.append(message)


def test_one_that_nobody_goes_on_with_has_ended_once_that_can_be_kept(store, durable, monkeypatch):
    monkeypatch.setattr(durable_module, "RETRY", 0.05)
    store.write(rows.add_call, rows.CallRow("fc-2", "ap", "fu", "", "", "spawn", 1, 0.0))
    store.write(rows.add_inputs, "fc-2", 0, [b"x"])
    refuse_once(store, monkeypatch, "write", refused := [])
    durable.end("fc-2", "it is gone")
    durable.collect(Collect(1, "fc-2"), waits := Waits())
    store.until(lambda: waits.said and isinstance(waits.said[-1], Done))
    assert len(refused) == 1
    assert [message.items for message in waits.said[:-1]] == [[[0, "cancelled", "it is gone"]]]


def test_what_the_last_server_left_is_had_once_it_can_be_read(store, durable, monkeypatch):
    monkeypatch.setattr(database, "READ_RETRY", 0.05)
    durable._server.apps = {}
    durable._server.deployments = SimpleNamespace(
        function=lambda name: None, lacks=lambda name: "it is gone", current={}
    )
    refuse_once(store, monkeypatch, "read", refused := [])
    restored = []
    durable.restore(lambda: restored.append(len(refused)))
    store.until(lambda: restored)
    assert restored == [1]
    assert store.said == ["the disk is full; it is tried again until it can"]
    store.settle()
    assert store.read(rows.progress_of, "fc-1").ended == COUNT


def test_what_comes_meanwhile_is_not_taken_for_what_the_last_server_left(store, durable, monkeypatch):
    durable._server.apps = {}
    durable._server.deployments = SimpleNamespace(
        function=lambda name: None, lacks=lambda name: "it is gone", current={}
    )
    with monkeypatch.context() as slow:
        slow.setattr(store.database, "read_at_last", lambda *job: asked.append(job))
        asked, restored = [], []
        durable.restore(lambda: restored.append(True))
    pool = Queue()
    pool.binding, pool.function.pools = b"", {"": pool}
    pool.function.app = SimpleNamespace(id="ap", name="shop", version=1)
    durable.spawned(durable._calls.begin("fc-2", pool, "", "spawn", None), [b"x"], said := Waits(), 1)
    store.until(lambda: said.said)
    store.database.read_at_last(*asked[0])
    store.until(lambda: restored)
    store.settle()
    assert store.read(rows.progress_of, "fc-1").ended == COUNT
    assert store.read(rows.progress_of, "fc-2").waiting == 1
