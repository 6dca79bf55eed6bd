"""Calls, inputs and outputs against a dictionary of them, whatever is said in whatever order, crashes included."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from greenroom.model.errors import NotFoundError
from greenroom.server.store import calls as c
from greenroom.server.store import many
from greenroom.server.store.payloads import SMALL
from greenroom.wire.payload import in_memory
from tests.long_form import LONG
from tests.server.store.conftest import Store

IDS = [f"fc-{n}" for n in range(4)]
KEYS = [None, "key-1", "key-2"]
PAYLOADS = st.builds(
    lambda data, size: data * size, st.sampled_from([b"a", b"b"]), st.sampled_from([0, 1, SMALL, SMALL + 1])
)
INDEXES = st.integers(0, 5)
TIMES = st.integers(1, 9).map(float)


class Model:
    """What the store is to have."""

    def __init__(self) -> None:
        self.calls: dict[str, dict[str, Any]] = {}

    def add_call(self, call_id, key, time, binding) -> None:
        if call_id in self.calls or (key and key in [call["key"] for call in self.calls.values()]):
            return
        fields = {"key": key, "time": time, "binding": binding, "count": None, "finished": None, "cancelled": ""}
        self.calls[call_id] = {**fields, "inputs": {}, "outputs": {}}

    def add_inputs(self, call_id, first, payloads) -> None:
        for index, payload in enumerate(payloads, first):
            if index not in self.calls[call_id]["outputs"]:
                self.calls[call_id]["inputs"].setdefault(index, (0, 0, "", payload))

    def put_outputs(self, outputs) -> None:
        for call_id, index, status, detail, payload in outputs:
            if call_id in self.calls:
                self.calls[call_id]["outputs"].setdefault(index, (status, detail, payload))
                self.calls[call_id]["inputs"].pop(index, None)

    def note_attempt(self, attempts) -> None:
        for call_id, index, attempt, losses, container in attempts:
            inputs = self.calls.get(call_id, {}).get("inputs", {})
            if index in inputs:
                inputs[index] = (attempt, losses, container, inputs[index][3])

    def end_waiting(self, call_id, after, limit, status, detail) -> None:
        call = self.calls.get(call_id, {"inputs": {}})
        for index in sorted(index for index in call["inputs"] if index > after)[:limit]:
            del call["inputs"][index]
            call["outputs"][index] = (status, detail, b"")

    def set_once(self, call_id, field, value) -> None:
        call = self.calls.get(call_id)
        if call is not None and call[field] in (None, ""):
            call[field] = value

    def forget(self, ids) -> None:
        for call_id in ids:
            self.calls.pop(call_id, None)

    def forget_older_than(self, time, limit) -> None:
        old = [(call["finished"], call_id) for call_id, call in self.calls.items() if (call["finished"] or 99) < time]
        for _, call_id in sorted(old, key=lambda pair: pair[0])[:limit]:
            del self.calls[call_id]


def kept(connection) -> dict[str, dict[str, Any]]:
    """The same, from the store."""
    found: dict[str, dict[str, Any]] = {}
    for call_id in IDS:
        row = c.find(connection, call_id)
        if row is None:
            assert c.outputs_of(connection, call_id) == c.inputs_of(connection, call_id) == []
            continue
        inputs, outputs = c.inputs_of(connection, call_id), c.outputs_of(connection, call_id)
        assert c.progress_of(connection, call_id)[:2] == (len(inputs), len(outputs))
        found[call_id] = {
            "key": row.idempotency,
            "time": row.created_at,
            "binding": bytes_of(c.binding_of(connection, "fu", "k")) if row.binding else b"",
            "count": row.inputs,
            "finished": row.finished_at,
            "cancelled": row.cancelled,
            "inputs": {i.idx: (i.attempt, i.losses, i.tried, bytes_of(i.payload)) for i in inputs},
            "outputs": {o.idx: (o.status, o.detail, bytes_of(o.payload)) for o in outputs},
        }
    unfinished = [row.id for row in c.unfinished(connection)]
    assert sorted(unfinished) == sorted(call_id for call_id, call in found.items() if call["finished"] is None)
    return found


def bytes_of(payload) -> bytes:
    return in_memory(payload) if len(payload) else b""


class StoreAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp(prefix="gr-store-"))
        self.homes = 0
        self.store = Store(self.top / "0" / "greenroom.db")
        self.model = Model()
        self.together: list[tuple[Any, Any]] = []
        """Changes of the store and of the model that are to be one batch."""

    def teardown(self) -> None:
        self.end_together()
        self.store.close()
        shutil.rmtree(self.top)

    def do(self, change, of_model) -> None:
        self.together.append((change, of_model))
        if len(self.together) > 2:
            self.end_together()

    def end_together(self) -> None:
        with self.store.held():
            begun = [(self.store.begin(change), of_model) for change, of_model in self.together]
        self.together.clear()
        for ended, of_model in begun:
            self.store.wait(ended)
            of_model(self.model)

    @rule(
        call_id=st.sampled_from(IDS), key=st.sampled_from(KEYS), time=TIMES, binding=st.sampled_from([b"", b"x" * 5000])
    )
    def add_call(self, call_id, key, time, binding) -> None:
        name = "k" if binding else ""
        row = c.CallRow(call_id, "ap", "fu", "", name, "spawn", None, time, idempotency=key)
        self.do(lambda k: c.add_call(k, row, binding), lambda m: m.add_call(call_id, key, time, binding))

    @rule(call_id=st.sampled_from(IDS), first=INDEXES, payloads=st.lists(PAYLOADS, max_size=4))
    def add_inputs(self, call_id, first, payloads) -> None:
        self.end_together()
        if call_id in self.model.calls:
            self.do(
                lambda k: c.add_inputs(k, call_id, first, payloads), lambda m: m.add_inputs(call_id, first, payloads)
            )
        else:
            with pytest.raises(NotFoundError):
                self.store.write(c.add_inputs, call_id, first, payloads)

    @rule(outputs=st.lists(st.builds(c.OutputRow, st.sampled_from(IDS), INDEXES, st.just("ok"), st.just(""), PAYLOADS)))
    def put_outputs(self, outputs) -> None:
        self.do(lambda k: c.put_outputs(k, outputs), lambda m: m.put_outputs(outputs))

    @rule(
        wholes=st.lists(
            st.tuples(st.sampled_from(IDS), st.sampled_from([b"", b"x" * 5000]), st.lists(PAYLOADS, max_size=3))
        ),
        outputs=st.lists(
            st.builds(c.OutputRow, st.sampled_from(IDS), INDEXES, st.just("ok"), st.just(""), PAYLOADS), max_size=4
        ),
        finished=st.lists(st.sampled_from(IDS), max_size=2),
        time=TIMES,
    )
    def keep_all(self, wholes, outputs, finished, time) -> None:
        """Calls, outputs and ends in one change, some of them there already, or said twice."""
        things: list[Any] = [
            many.Whole(
                c.CallRow(call_id, "ap", "fu", "", "k" if binding else "", "spawn", len(payloads), time),
                binding,
                payloads,
            )
            for call_id, binding, payloads in wholes
        ]
        things += [*outputs, *(many.Finished(call_id, time) for call_id in finished)]

        def of_model(model: Model) -> None:
            for call_id, binding, payloads in wholes:
                model.add_call(call_id, None, time, binding)
                model.add_inputs(call_id, 0, payloads)
                model.set_once(call_id, "count", len(payloads))
            model.put_outputs(outputs)
            for call_id in finished:
                model.set_once(call_id, "finished", time)

        self.do(lambda k: many.keep_all(k, things), of_model)

    @rule(noted=st.lists(st.builds(c.Attempt, st.sampled_from(IDS), INDEXES, INDEXES, INDEXES, st.just("ta"))))
    def note_attempt(self, noted) -> None:
        self.do(lambda k: c.note_attempt(k, noted), lambda m: m.note_attempt(noted))

    @rule(call_id=st.sampled_from(IDS), after=INDEXES, limit=INDEXES)
    def end_waiting(self, call_id, after, limit) -> None:
        told = (call_id, after - 1, limit, "cancelled", "why")
        self.do(lambda k: c.end_waiting(k, *told), lambda m: m.end_waiting(*told))

    @rule(call_id=st.sampled_from(IDS), count=INDEXES)
    def end_inputs(self, call_id, count) -> None:
        self.do(lambda k: c.end_inputs(k, call_id, count), lambda m: m.set_once(call_id, "count", count))

    @rule(call_id=st.sampled_from(IDS), reason=st.sampled_from(["one", "two"]))
    def cancel(self, call_id, reason) -> None:
        self.do(lambda k: c.cancel(k, call_id, reason), lambda m: m.set_once(call_id, "cancelled", reason))

    @rule(call_id=st.sampled_from(IDS), time=TIMES)
    def finish(self, call_id, time) -> None:
        self.do(lambda k: c.finish(k, call_id, time), lambda m: m.set_once(call_id, "finished", time))

    @rule(ids=st.lists(st.sampled_from(IDS), max_size=2))
    def forget(self, ids) -> None:
        self.do(lambda k: c.forget(k, ids), lambda m: m.forget(ids))

    @rule(time=TIMES)
    def forget_older_than(self, time) -> None:
        self.do(lambda k: c.forget_older_than(k, time, 100), lambda m: m.forget_older_than(time, 100))

    @rule(call_id=st.sampled_from(IDS), payload=PAYLOADS)
    def a_change_that_raises(self, call_id, payload) -> None:
        def fails(connection) -> None:
            c.put_outputs(connection, [c.OutputRow(call_id, 0, "ok", "", payload)])
            c.forget(connection, IDS)
            raise KeyError("mine")

        with self.store.held():
            before = [(self.store.begin(change), of_model) for change, of_model in self.together]
            failed = self.store.begin(fails)
        self.together.clear()
        for ended, of_model in before:
            self.store.wait(ended)
            of_model(self.model)
        with pytest.raises(KeyError):
            self.store.wait(failed)

    @rule(clean=st.booleans())
    def reopen(self, clean) -> None:
        """Or crash: what the disk has while the batch of now is made and not committed is all that is left."""
        home = self.top / str(self.homes)
        self.homes += 1
        next_home = self.top / str(self.homes)
        if clean:
            self.end_together()
            self.store.close()
            shutil.copytree(home, next_home)
        else:
            lost = [change for change, _ in self.together]
            self.together.clear()
            with self.store.held(lambda connection: [change(connection) for change in lost]):
                shutil.copytree(home, next_home, ignore=shutil.ignore_patterns("*-shm"))
            self.store.settle()
            self.store.close()
        shutil.rmtree(home)
        self.store = Store(next_home / "greenroom.db")
        assert self.store.sql("PRAGMA integrity_check") == [("ok",)]

    @invariant()
    def the_same(self) -> None:
        if not self.together:
            assert self.store.read(kept) == self.model.calls
            assert self.store.sql(
                "SELECT count(*) FROM (SELECT payload FROM parts GROUP BY 1) WHERE payload NOT IN (SELECT large FROM inputs"
                " WHERE large NOT NULL UNION SELECT large FROM outputs WHERE large NOT NULL UNION SELECT large FROM bindings"
                " WHERE large NOT NULL)"
            ) == [(0,)]


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(max_examples=400 if LONG else 25, stateful_step_count=40, deadline=None)
