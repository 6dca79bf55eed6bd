"""Many calls in one change: as many statements as it takes, and what each has is what it would have alone."""

from pathlib import Path

from greenroom.model.errors import NotFoundError, StoreError
from greenroom.server.keeping import Keeping
from greenroom.server.store import calls as c
from greenroom.server.store import many
from greenroom.server.store.payloads import SMALL
from greenroom.wire.payload import in_memory
from tests.server.store.conftest import Store

COUNT = 3 * many.ROWS + 5


def whole(number: int, *payloads: bytes, **fields) -> many.Whole:
    row = c.CallRow(f"fc-{number}", "ap", "fu", "", "", "spawn", len(payloads), float(number))
    return many.Whole(row._replace(**fields), b"", payloads)


def output(number: int, index: int = 0, payload: bytes = b"") -> c.OutputRow:
    return c.OutputRow(f"fc-{number}", index, "ok", "", payload or b"%d" % number)


def bytes_of(payload) -> bytes:
    return in_memory(payload) if len(payload) else b""


def test_calls_of_many_statements_come_and_end(store: Store) -> None:
    large = b"y" * (SMALL + 1)
    store.write(many.keep_all, [whole(n, b"%d" % n, large) for n in range(COUNT)])
    assert [row.id for row in store.read(c.unfinished)] == [f"fc-{n}" for n in range(COUNT)]
    assert [bytes_of(row.payload) for row in store.read(c.inputs_of, f"fc-{COUNT - 1}")] == [b"%d" % (COUNT - 1), large]

    # The first half ends wholly, of the rest one input does; calls that nobody knows are left out.
    half = COUNT // 2
    ended = [output(n, index) for n in range(COUNT) for index in (0, 1) if not index or n < half]
    finished = [many.Finished(f"fc-{n}", 9.0) for n in range(half)]
    store.write(many.keep_all, [*ended, *finished, output(COUNT), many.Finished(f"fc-{COUNT}", 9.0)])
    assert [row.id for row in store.read(c.unfinished)] == [f"fc-{n}" for n in range(half, COUNT)]
    assert [store.read(c.progress_of, f"fc-{n}")[:2] for n in (0, half - 1, half, COUNT - 1)] == [
        (0, 2), (0, 2), (1, 1), (1, 1)
    ]  # fmt: skip
    assert store.read(c.find, f"fc-{half - 1}").finished_at == 9.0
    assert store.sql("SELECT count(*) FROM parts") == [(COUNT - half,)]


def test_one_that_comes_and_ends_in_the_same_change_has_no_input(store: Store) -> None:
    store.write(
        many.keep_all, [many.Finished("fc-1", 5.0), output(1), whole(1, b"in"), output(2), whole(2, b"a", b"b")]
    )
    assert store.read(c.find, "fc-1").finished_at == 5.0
    assert store.read(c.progress_of, "fc-1")[:2] == (0, 1)
    assert [row.idx for row in store.read(c.inputs_of, "fc-2")] == [1]
    assert [row.id for row in store.read(c.unfinished)] == ["fc-2"]


def test_what_is_there_already_stays_and_the_rest_is_kept(store: Store) -> None:
    store.write(many.keep_all, [whole(1, b"first"), output(2), whole(2, b"x")])
    store.write(many.keep_all, [whole(1, b"second"), whole(3, b"third"), output(2, payload=b"other"), output(3)])
    assert [bytes_of(row.payload) for row in store.read(c.inputs_of, "fc-1")] == [b"first"]
    assert [bytes_of(row.payload) for row in store.read(c.outputs_of, "fc-2")] == [b"2"]
    assert store.read(c.progress_of, "fc-3")[:2] == (0, 1)


def test_pages_of_a_call_that_is_collected(store: Store, monkeypatch) -> None:
    assert store.read(many.collected, "fc-1", -1, 2) is None
    store.write(many.keep_all, [whole(1, b"a", b"b", b"c")])
    assert store.read(many.collected, "fc-1", -1, 2) == (3, [], False)
    store.write(many.keep_all, [output(1, index) for index in range(3)])
    pages = [store.read(many.collected, "fc-1", after, 2) for after in (-1, 1, 2)]
    assert [([row.idx for row in rows], more) for _, rows, more in pages] == [([0, 1], True), ([2], False), ([], False)]
    monkeypatch.setattr(many, "PAGE_BYTES", 1)
    assert [row.idx for row in store.read(many.collected, "fc-1", -1, 2)[1]] == [0]


def test_small_outputs_of_many_calls(store: Store) -> None:
    large = b"y" * (SMALL + 1)
    ended = [output(n, payload=large if n == 3 else b"") for n in range(COUNT) if n != 2]
    store.write(
        many.keep_all, [*(whole(n, b"x") for n in range(COUNT)), *ended, whole(COUNT, b"a", b"b"), output(COUNT)]
    )
    found = store.read(many.small_outputs, [f"fc-{n}" for n in range(COUNT + 2)])
    assert found.pop("fc-2") == (None,)
    assert found == {f"fc-{n}": (output(n),) for n in range(COUNT) if n not in (2, 3)}


# ---- what gathers them ----


def test_what_is_put_while_the_store_is_busy_is_one_change_in_its_order(store: Store) -> None:
    keeping = Keeping(store.loop, store.database)
    told: list[str] = []
    with store.held():
        commits = store.database.commits
        for n in range(10):
            keeping.put(whole(n, b"x"), lambda done, n=n: told.append(f"whole {n} {done.exception()}"))
        store.until(lambda: not keeping._waiting)
        for n in range(10):
            keeping.put(output(n), lambda done, n=n: told.append(f"output {n} {done.exception()}"))
            keeping.put(many.Finished(f"fc-{n}", 1.0), lambda done: None)
        assert keeping.pending == 30
    store.until(lambda: not keeping.pending)
    assert told == [f"{what} {n} None" for what in ("whole", "output") for n in range(10)]
    assert store.database.commits - commits <= 3
    assert store.read(c.unfinished) == []


def test_one_that_can_not_be_kept_keeps_the_others_from_nothing(store: Store) -> None:
    store.write(c.add_call, whole(0)[0]._replace(idempotency="key"))
    keeping = Keeping(store.loop, store.database)
    told: dict[int, object] = {}
    with store.held():
        for n in (1, 2, 3):
            key = "key" if n == 2 else None
            keeping.put(whole(n, b"x", idempotency=key), lambda done, n=n: told.update({n: done.exception()}))
        keeping.flush()
    store.until(lambda: not keeping.pending)
    assert isinstance(told.pop(2), NotFoundError)
    assert told == {1: None, 3: None}
    assert store.read(c.find, "fc-2") is None
    assert [row.id for row in store.read(c.unfinished)] == ["fc-0", "fc-1", "fc-3"]


def test_a_store_that_is_closed_is_told_to_each(path: Path) -> None:
    store = Store(path)
    keeping = Keeping(store.loop, store.database)
    told: list[object] = []
    closed: list[bool] = []
    store.database.close(lambda: closed.append(True))
    keeping.put(whole(1, b"x"), lambda done: told.append(done.exception()))
    keeping.put(output(1), lambda done: told.append(done.exception()))
    store.until(lambda: not keeping.pending and closed)
    store.loop.close()
    assert len(told) == 2
    assert all(isinstance(error, StoreError) for error in told)
