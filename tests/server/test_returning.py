"""What the server after another takes from containers and callers that outlived that: what can't be so, and how it fits together."""

from types import SimpleNamespace

import pytest

import greenroom
from greenroom.model.errors import ProtocolError
from greenroom.model.settings import Settings
from greenroom.model.spec import MethodSpec, RetrySpec
from greenroom.server.calls import Calls
from greenroom.server.returning import MOST, Orphan, check
from greenroom.testing import Cluster, HeldClock
from greenroom.wire.messages import Outputs, Status
from greenroom.wire.returning_messages import Returning
from tests.server.hostile import hostile_app
from tests.server.test_calls import Queue, Receiver

GOOD = [[0, "fc-1", 0, "call", "unary"], [4, "fc-2", 17, "call", "map"], [2, "fc-3", 0, "call", "web"]]


def container():
    """As far as what it says is held against it."""
    queue = Queue()
    queue.function = SimpleNamespace(
        spec=queue.function.spec._replace(methods=[MethodSpec("call")]), app=SimpleNamespace(name="app")
    )
    return SimpleNamespace(pool=queue, running={})


def test_what_can_be_so_is_taken():
    check(container(), Returning(GOOD, 5))
    check(container(), Returning([], 0))


@pytest.mark.parametrize(
    "items",
    [
        *([item] for item in ([], [0], ["0", "fc", 0, "call", "unary"], [True, "fc", 0, "call", "unary"])),
        [[0, "fc", 0, "call"]],
        [[0, "fc", 0, "call", "unary", 1]],
        [[0, 1, 0, "call", "unary"]],
        [[0, "fc", 0.0, "call", "unary"]],
        [[0, "fc", 0, None, "unary"]],
        [["fc"] * 5],
        [None],
        [[-1, "fc", 0, "call", "unary"]],
        [[5, "fc", 0, "call", "unary"]],
        [[0, "fc", -1, "call", "unary"]],
        [[0, "f" * 1000, 0, "call", "unary"]],
        [[0, "fc", 0, "other", "unary"]],
        [[0, "fc", 0, "call", "other"]],
        [GOOD[0], GOOD[0]],
        [[seq, "fc", 0, "call", "unary"] for seq in range(MOST + 1)],
    ],
    ids=str,
)
def test_what_can_not_be_so_is_refused(items):
    with pytest.raises(ProtocolError):
        check(container(), Returning(items, 5 if len(items) < MOST else MOST + 1))


def test_a_container_that_was_not_away_does_not_come_back():
    app, attack, good, _ = hostile_app()
    with Cluster(settings=Settings(sandbox="process")), app.run():
        with pytest.raises(greenroom.Error):
            attack.remote([("data", Returning([], 0), None)], True)
        assert good.remote(7) == 7


# ---- calls and inputs ----


@pytest.fixture
def calls():
    return Calls(HeldClock(), lambda item: None)


def begin(calls, pool, shape="map", *, again=0, owner=None, before=None):
    """A call that its caller says again."""
    owner = owner or Receiver()
    call = calls.begin("fc-1", pool, "call", shape, owner)
    call.again, call.added, call.finished, call.before = True, again, again, before
    return call, owner


def test_what_nobody_has_is_run_once_all_have_been_heard(calls):
    place = container()
    calls.hold()
    call, caller = begin(calls, place.pool)
    calls.add(call, 0, [b"a", b"b", b"c"])
    assert place.pool.items == []
    assert calls.claim(call.inputs[1], place, 7)
    calls.release()
    assert [item.index for item in place.pool.items] == [0, 2]
    calls.results([(place.running.pop(7), Status.OK, b"B")])
    assert caller.got == {("fc-1", 1): Status.OK}


def test_what_is_claimed_twice_or_by_another_function_is_not(calls):
    place, other = container(), container()
    other.pool.function.app.name = "other"
    calls.hold()
    call, _ = begin(calls, place.pool)
    calls.add(call, 0, [b"a"])
    assert not calls.claim(call.inputs[0], other, 3)
    assert calls.claim(call.inputs[0], place, 7)
    assert not calls.claim(call.inputs[0], place, 8)
    assert list(place.running) == [7]


def test_a_caller_that_comes_late_finds_what_runs_and_what_has_ended(calls):
    place = container()
    calls.hold()
    orphan = Orphan("fc-1", place.pool, "call", "map")
    for seq, index in ((3, 5), (4, 6), (5, 8)):
        assert calls.claim(orphan.add(index), place, seq)
    calls.results([(place.running.pop(4), Status.OK, b"six")])
    calls.release()
    call, caller = begin(calls, place.pool, again=5, before=orphan)
    calls.add(call, 5, [b"5", b"6", b"7"])
    assert caller.got == {("fc-1", 6): Status.OK}
    assert [item.index for item in place.pool.items] == [7]
    calls.results([(place.running.pop(3), Status.OK, b"five")])
    item = place.pool.items.pop()
    calls.dispatched(item, place, 9)
    calls.results([(item, Status.OK, b"seven")])
    calls.end_inputs(call, 8)
    assert set(caller.got) == {("fc-1", index) for index in (5, 6, 7)}
    assert "fc-1" not in calls.by_id
    # What its caller has had already, and so doesn't ask for, is nobody's.
    calls.results([(place.running.pop(5), Status.OK, b"eight")])
    assert len(caller.got) == 3


def test_one_whose_arguments_nobody_knows_yet_waits_for_its_caller(calls):
    place = container()
    orphan = Orphan("fc-1", place.pool, "call", "unary")
    item = orphan.add(0)
    assert calls.claim(item, place, 3)
    calls.crashed([place.running.pop(3)], "killed by signal 9")  # it may be tried again: retries are left
    assert place.pool.items == []
    call, _ = begin(calls, place.pool, "unary", before=orphan)
    calls.add(call, 0, [b"a"])
    assert [item.payload for item in place.pool.items] == [b"a"]


def test_an_end_with_an_error_is_told_as_such(calls):
    orphan = Orphan("fc-1", container().pool, "call", "unary")
    orphan.send(Outputs("fc-1", [[0, Status.ERROR, ""]], []), [b"error"])
    call, caller = begin(calls, container().pool, "unary", before=orphan)
    calls.add(call, 0, [b"a"])
    assert caller.got == {("fc-1", 0): Status.ERROR}
    assert call.done


def test_an_attempt_that_failed_before_its_caller_came_back_counts(calls):
    place = container()
    place.pool.function.spec = place.pool.function.spec._replace(retries=RetrySpec(1, 0.0, 1.0, 1.0))
    orphan = Orphan("fc-1", place.pool, "call", "unary")
    assert calls.claim(orphan.add(0), place, 3)
    calls.crashed([place.running.pop(3)], "killed by signal 9")
    call, caller = begin(calls, place.pool, "unary", before=orphan)
    calls.add(call, 0, [b"a"])
    (item,) = place.pool.items
    assert item.attempt == 1
    calls.dispatched(item, place, 4)
    item.started_at = 0.0
    calls.crashed([item], "killed by signal 9")
    assert caller.got == {("fc-1", 0): Status.CRASHED}


def test_without_retries_its_caller_is_told_when_he_comes_back(calls):
    place = container()
    place.pool.function.spec = place.pool.function.spec._replace(retries=RetrySpec(0, 0.0, 1.0, 1.0))
    orphan = Orphan("fc-1", place.pool, "call", "unary")
    assert calls.claim(orphan.add(0), place, 3)
    calls.crashed([place.running.pop(3)], "killed by signal 9")
    call, caller = begin(calls, place.pool, "unary", before=orphan)
    calls.add(call, 0, [b"a"])
    assert caller.got == {("fc-1", 0): Status.CRASHED}
    assert place.pool.items == []
