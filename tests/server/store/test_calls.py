"""Calls, inputs and outputs as they are kept."""

import os

import pytest

from greenroom.model.errors import NotFoundError
from greenroom.server.store import calls as c
from greenroom.server.store.payloads import INLINE, SMALL
from greenroom.wire.payload import Descriptor, as_payload, in_memory
from tests.server.store.conftest import Store

DAY = 86400.0


def call(call_id: str = "fc-1", **fields) -> c.CallRow:
    given = {"inputs": None, "binding": "", "created_at": 1.5, **fields}
    return c.CallRow(id=call_id, app_id="ap-1", function_id="fu-1", method="run", shape="spawn", **given)


def ok(call_id: str, idx: int, payload=b"result") -> c.OutputRow:
    return c.OutputRow(call_id, idx, "ok", "", payload)


def test_a_call_from_its_beginning_to_its_end(store: Store) -> None:
    assert store.write(c.add_call, call()) is None
    assert store.write(c.add_inputs, "fc-1", 0, [b"a", b"b", b"c"]) == 3
    store.write(c.note_attempt, [c.Attempt("fc-1", 1, 2, 3, "ta-7")])
    assert store.read(c.inputs_of, "fc-1", 0) == [
        c.InputRow("fc-1", 1, 2, 3, "ta-7", b"b"),
        c.InputRow("fc-1", 2, 0, 0, "", b"c"),
    ]
    store.write(c.end_inputs, "fc-1", 3)
    assert store.write(c.put_outputs, [ok("fc-1", 1), c.OutputRow("fc-1", 0, "error", "why", b"")]) == 2
    assert store.read(c.progress_of, "fc-1") == c.Progress(1, 2, 3)
    assert store.write(c.put_outputs, [ok("fc-1", 2)]) == 1
    store.write(c.finish, "fc-1", 9.0)
    assert store.read(c.find, "fc-1") == call(inputs=3, finished_at=9.0, number=1)
    assert store.read(c.outputs_of, "fc-1") == [
        c.OutputRow("fc-1", 0, "error", "why", b""),
        ok("fc-1", 1),
        ok("fc-1", 2),
    ]
    assert store.read(c.outputs_of, "fc-1", 0, 1) == [ok("fc-1", 1)]
    assert store.sql("SELECT count(*) FROM inputs") == [(0,)]


def test_what_is_said_again_changes_nothing(store: Store) -> None:
    store.write(c.add_call, call(idempotency="key"))
    store.write(c.add_inputs, "fc-1", 0, [b"a", b"b"])
    store.write(c.put_outputs, [ok("fc-1", 0, b"first")])
    kept = call(idempotency="key", number=1)
    assert store.write(c.add_call, call("fc-2", idempotency="key")) == kept
    assert store.write(c.add_call, call()) == kept
    assert store.write(c.add_inputs, "fc-1", 0, [b"x", b"y", b"z"]) == 1
    assert [row.payload for row in store.read(c.inputs_of, "fc-1")] == [b"b", b"z"]
    assert store.write(c.put_outputs, [ok("fc-1", 0, b"x" * 2 * SMALL)]) == 0
    assert store.read(c.outputs_of, "fc-1") == [ok("fc-1", 0, b"first")]
    for moment, count, reason in ((3.0, 5, "one"), (4.0, 6, "two")):
        store.write(c.finish, "fc-1", moment)
        store.write(c.end_inputs, "fc-1", count)
        store.write(c.cancel, "fc-1", reason)
    assert store.read(c.find, "fc-1") == kept._replace(finished_at=3.0, inputs=5, cancelled="one")
    assert store.sql("SELECT count(*) FROM parts") == [(0,)]


def test_calls_that_are_not_there(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no call fc-9 is kept"):
        store.write(c.add_inputs, "fc-9", 0, [b""])
    with pytest.raises(NotFoundError, match="no call fc-9"):
        store.read(c.progress_of, "fc-9")
    with pytest.raises(NotFoundError, match="no parameter set k of fu-1"):
        store.read(c.binding_of, "fu-1", "k")
    store.write(c.add_call, call())
    assert store.write(c.put_outputs, [ok("fc-9", 0), ok("fc-1", 0)]) == 1
    assert store.read(c.find, "fc-9") is None
    assert store.read(c.outputs_of, "fc-9") == store.read(c.inputs_of, "fc-9") == []


@pytest.mark.parametrize("size", [0, SMALL, SMALL + 1, INLINE, 3 * INLINE + 5])
@pytest.mark.parametrize("in_file", [False, True])
def test_payloads_of_every_size(store: Store, size: int, in_file: bool) -> None:
    data = os.urandom(size)

    def payload():
        return as_payload(data, 0 if in_file else size)

    store.write(c.add_call, call(binding="k"), payload())
    store.write(c.add_inputs, "fc-1", 0, [b"before", payload(), b"after"])
    (_, kept, _) = store.read(c.inputs_of, "fc-1")
    assert in_memory(kept.payload) == data if size else kept.payload == b""
    assert isinstance(kept.payload, Descriptor) is (size > INLINE)
    store.write(c.note_attempt, [c.Attempt("fc-1", 1, 1, 0)])
    store.write(c.put_outputs, [ok("fc-1", 1, payload())])
    (output,) = store.read(c.outputs_of, "fc-1")
    assert len(output.payload) == size and (not size or in_memory(output.payload) == data)
    bound = store.read(c.binding_of, "fu-1", "k")
    assert len(bound) == size and (not size or in_memory(bound) == data)
    store.write(c.forget, ["fc-1"])
    assert store.write(c.forget_older_than, 0.0, 100) == 4
    for table in ("parts", "bindings", "inputs", "outputs", "calls"):
        assert store.sql(f"SELECT count(*) FROM {table}") == [(0,)]


def test_a_page_ends_where_its_payloads_are_many_bytes(store: Store, monkeypatch) -> None:
    monkeypatch.setattr(c, "PAGE_BYTES", 10_000)
    store.write(c.add_call, call())
    store.write(c.add_inputs, "fc-1", 0, [b"x" * 6000] * 5)
    assert [row.idx for row in store.read(c.inputs_of, "fc-1")] == [0, 1]
    store.write(c.put_outputs, [ok("fc-1", index, b"x" * 20_000) for index in range(3)])
    assert [row.idx for row in store.read(c.outputs_of, "fc-1", 0)] == [1]


def test_unfinished_calls_come_in_pages_and_in_order(store: Store) -> None:
    ids = [f"fc-{n:04}" for n in (5, 3, 9, 1, 7)]
    for call_id in ids:
        store.write(c.add_call, call(call_id))
    store.write(c.finish, "fc-0009", 1.0)
    found, after = [], 0
    while page := store.read(c.unfinished, after, 2):
        found += [row.id for row in page]
        after = page[-1].number
    assert found == [call_id for call_id in ids if call_id != "fc-0009"]


def test_inputs_that_were_never_read_end_without_being_read(store: Store) -> None:
    store.write(c.add_call, call())
    store.write(c.add_inputs, "fc-1", 0, [b"x" * 10_000] * 10)
    store.write(c.put_outputs, [ok("fc-1", 7)])
    assert store.write(c.end_waiting, "fc-1", 2, 4, "cancelled", "why") == 4
    assert store.write(c.end_waiting, "fc-1", 2, 4, "cancelled", "why") == 2
    assert store.write(c.end_waiting, "fc-1", 2, 4, "cancelled", "why") == 0
    assert [row.idx for row in store.read(c.inputs_of, "fc-1")] == [0, 1, 2]
    outputs = store.read(c.outputs_of, "fc-1")
    assert [row.idx for row in outputs] == [3, 4, 5, 6, 7, 8, 9]
    assert {row[2:] for row in outputs if row.idx != 7} == {("cancelled", "why", b"")}
    assert store.sql("SELECT count(*) FROM parts") == [(30 // 10,)]


def test_calls_are_forgotten_in_small_steps_and_at_once_for_who_asks(store: Store) -> None:
    for number in range(4):
        store.write(c.add_call, call(f"fc-{number}", binding="k", idempotency=f"key-{number}"), b"arguments")
        store.write(c.put_outputs, [ok(f"fc-{number}", index) for index in range(10)])
        if number:
            store.write(c.finish, f"fc-{number}", number * DAY)
    removed = store.write(c.forget_older_than, 2.5 * DAY, 4)
    assert removed == 4
    assert [store.read(c.find, f"fc-{number}") is None for number in range(4)] == [False, True, True, False]
    assert store.read(c.outputs_of, "fc-1") == store.read(c.outputs_of, "fc-2") == []
    assert store.write(c.add_call, call("fc-5", idempotency="key-1")) is None
    steps = []
    while not steps or steps[-1] == 4:
        steps.append(store.write(c.forget_older_than, 2.5 * DAY, 4))
    assert sum(steps) + removed == 22 and max(steps) == 4
    assert store.sql("SELECT count(*) FROM outputs") == [(20,)]
    assert store.read(c.binding_of, "fu-1", "k") == b"arguments"
    store.write(c.forget, ["fc-0", "fc-3"])
    assert store.write(c.forget_older_than, 0.0, 1000) == 22
    with pytest.raises(NotFoundError):
        store.read(c.binding_of, "fu-1", "k")
    assert [row.id for row in store.read(c.unfinished)] == ["fc-5"]


def test_what_is_asked_often_reads_no_table_as_a_whole(store: Store) -> None:
    for statement in (
        "SELECT * FROM calls WHERE id = 'x'",
        "SELECT * FROM calls INDEXED BY unfinished_calls WHERE finished_at IS NULL AND number > 0 ORDER BY number LIMIT 9",
        "SELECT number FROM calls WHERE finished_at < 3 AND id IS NOT NULL ORDER BY finished_at LIMIT 9",
        "SELECT number FROM calls WHERE id IS NULL LIMIT 9",
        "SELECT idx FROM outputs WHERE call = (SELECT number FROM calls WHERE id = 'x') AND idx > 3 ORDER BY idx LIMIT 9",
        "SELECT 1 FROM calls WHERE function_id = 'f' AND binding = 'k' AND binding != '' AND number != 3",
        "SELECT coalesce(max(number), 0) FROM calls",
        "SELECT id, number FROM calls WHERE id IN ('x', 'y', 'z')",
        "DELETE FROM inputs WHERE idx = 0 AND call IN (1, 2, 3)",
        "DELETE FROM inputs WHERE call = 1 AND idx IN (1, 2, 3)",
        "UPDATE calls SET finished_at = 3 WHERE finished_at IS NULL AND id IN ('x', 'y', 'z')",
        "SELECT inputs, idx FROM calls LEFT JOIN outputs ON call = number AND idx > 3 WHERE id = 'x' ORDER BY idx LIMIT 9",
        "SELECT id, idx FROM calls LEFT JOIN outputs ON call = number WHERE inputs = 1 AND id IN ('x', 'y', 'z')",
    ):
        plan = " ".join(row[3] for row in store.sql(f"EXPLAIN QUERY PLAN {statement}"))
        assert "SEARCH" in plan and "SCAN" not in plan and "TEMP B-TREE" not in plan, plan
