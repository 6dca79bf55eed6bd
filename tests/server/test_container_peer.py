"""What a hostile container may say as an agent: nothing of it touches another one, and what can't be true changes nothing."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenroom
from greenroom.wire.messages import (
    Bind,
    Call,
    CancelCall,
    Collect,
    Credit,
    EndInputs,
    Entered,
    Exited,
    Exiting,
    HookDone,
    Inputs,
    Refused,
    Results,
    Returned,
    StartFailed,
    Stop,
    Stuck,
    Yielded,
)
from tests.long_form import LONG
from tests.server.hostile import Speaker, hostile_app, say

NOTHING = b"\x80\x05N."
"""The pickle of None."""
HIGH = 2**62


@pytest.fixture(scope="module")
def apps(cluster):
    app, attack, good, count = hostile_app()
    with app.run():
        good.remote(0)
        yield attack, good, count


def containers_of(cluster, name):
    return [c["id"] for c in cluster.containers() if c["function"] == name]


LIES = {
    "a result of an input that it never got": ("data", Results([[HIGH, "ok", ""]], []), [NOTHING]),
    "a result of an input that has ended": ("data", Results([[0, "ok", ""]], []), [NOTHING]),
    "a result before one that can't be": ("data", Results([[1, "ok", ""], [HIGH, "ok", ""]], []), [NOTHING, NOTHING]),
    "two results of one input": ("data", Results([[1, "ok", ""], [1, "ok", ""]], []), [NOTHING, NOTHING]),
    "fewer payloads than results": ("data", Results([[1, "ok", ""], [0, "ok", ""]], []), [NOTHING]),
    "more payloads than results": ("data", Results([[1, "ok", ""]], []), [NOTHING, NOTHING]),
    "a result that is no list": ("data", Results(["ok!"], []), [NOTHING]),
    "a result of two fields": ("data", Results([[1, "ok"]], []), [NOTHING]),
    "a result of a list": ("data", Results([[[1], "ok", ""]], []), [NOTHING]),
    "a result of True": ("data", Results([[True, "ok", ""]], []), [NOTHING]),
    "a status that is none": ("data", Results([[1, "splendid", ""]], []), [NOTHING]),
    "a status that is a server's": ("data", Results([[1, "crashed", ""]], []), [NOTHING]),
    "a status that is a list": ("data", Results([[1, ["ok"], ""]], []), [NOTHING]),
    "a detail": ("data", Results([[1, "error", "no"]], []), [NOTHING]),
    "a generator's end of what is none": ("data", Results([[1, "end", ""]], []), [NOTHING]),
    "values of what is no generator": ("data", Yielded(1, []), [NOTHING]),
    "values of nothing": ("data", Yielded(HIGH, []), [NOTHING]),
    "inputs back that nobody asked for": ("control", Returned([1]), None),
    "inputs back that are none": ("control", Returned([[1]]), None),
    "stuck in an input that it never got": ("control", Stuck(HIGH, True), None),
    "its exit, while it runs": ("data", Exiting(), None),
    "its exit's end, while it runs": ("data", Exited([]), None),
    "a step that is none": ("data", HookDone("dance", "", 0.0, ""), None),
    "an endless step": ("data", HookDone("enter", "x", float("inf"), ""), None),
    "a server's word": ("data", Stop("now"), None),
    "a control word on data": ("data", Returned([]), None),
    "a data word on control": ("control", Results([[1, "ok", ""]], []), [NOTHING]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_costs_the_liar_alone(cluster, apps, lie):
    attack, good, _ = apps
    before = containers_of(cluster, "good")
    attack.remote([], False)  # its input 0 has ended; the next one is 1, in a container of its own
    liars = containers_of(cluster, "attack")
    with pytest.raises(greenroom.ContainerCrashed):
        attack.remote([LIES[lie]], True)
    assert list(good.map(range(50))) == list(range(50))
    assert containers_of(cluster, "good") == before
    cluster.wait_until(lambda: not set(liars) & set(containers_of(cluster, "attack")))


def test_what_its_memory_says_after_its_end_counts_as_far_as_it_can_be(cluster, apps):
    app = greenroom.App("ledger")

    @app.function(serialized=True, max_containers=1)
    def writes():
        import os

        agent = say()
        for seq in (0, 0, 1, -1, HIGH):
            agent._ledger.keep(seq, NOTHING)
        os._exit(1)

    with app.run():
        assert writes.remote() is None, "the record of its own input"
        assert apps[1].remote(7) == 7


def test_a_generator_gets_no_further_ahead_than_its_caller_lets_it(cluster, apps):
    app = greenroom.App("eager")

    @app.function(serialized=True)
    def eager():
        while True:
            say(("data", Yielded(0, []), [NOTHING]))
        yield

    with app.run():
        values = eager.remote_gen()
        with pytest.raises(greenroom.ContainerCrashed):
            for _ in values:
                cluster.wait_until(lambda: not containers_of(cluster, "eager"))


@pytest.mark.parametrize("channel", ["data", "control"])
def test_a_second_agent_is_refused_and_harms_nobody(cluster, apps, channel):
    speaker = Speaker(cluster, "good", channel=channel)
    assert isinstance(speaker.hear(), Refused)
    assert apps[1].remote(1) == 1
    speaker.connection.close()


def test_a_token_that_is_no_text_is_refused(cluster, apps):
    speaker = Speaker(cluster, token="\ud800")
    assert isinstance(speaker.hear(), Refused)
    speaker.connection.close()


def test_a_first_frame_is_small(cluster, apps):
    speaker = Speaker(cluster, token="x" * 5000)
    assert speaker.is_closed()
    speaker.connection.close()


# ---- anything, in any order ----

seqs = st.sampled_from([-1, 0, 1, 2, HIGH]) | st.sampled_from(["1", None, [], True, 1.5])
statuses = st.sampled_from(["ok", "error", "end", "cancelled", "refused", "", 1])
results = st.lists(st.lists(seqs | statuses, max_size=4) | st.tuples(seqs, statuses, st.just("")).map(list), max_size=3)
texts = st.text(max_size=20)
payloads = st.lists(st.just(NOTHING), max_size=3)
agents = st.one_of(
    st.tuples(st.just("data"), st.builds(Results, results, st.just([])), payloads),
    st.tuples(st.just("data"), st.builds(Yielded, st.sampled_from([-1, 0, 1, HIGH]), st.just([])), payloads),
    st.tuples(st.just("data"), st.builds(StartFailed, texts, texts, st.just([])), payloads),
    st.tuples(
        st.sampled_from(["data", "control"]),
        st.one_of(
            st.builds(HookDone, st.sampled_from(["import", "enter", "exit", "no"]), texts, st.floats(), texts),
            st.builds(Entered),
            st.builds(Exiting),
            st.builds(Exited, st.lists(texts | st.integers(), max_size=2)),
            st.builds(Returned, st.lists(seqs, max_size=3)),
            st.builds(Stuck, st.sampled_from([-1, 0, 1, HIGH]), st.just(False)),
        ),
        st.none(),
    ),
)


@settings(max_examples=60 if LONG else 30)
@given(messages=st.lists(agents, min_size=1, max_size=5))
def test_whatever_an_agent_says_the_others_go_on(cluster, apps, messages):
    attack, good, _ = apps
    before = containers_of(cluster, "good")
    try:
        attack.remote(messages, False)
    except (greenroom.Error, greenroom.InputCancellation):
        pass  # it lied, and has been ended
    assert list(good.map(range(20))) == list(range(20))
    assert containers_of(cluster, "good") == before


examples = itertools.count()
ids = st.sampled_from(["own", "other", "third"])
first = st.sampled_from([-1, 0, 1, 2, 3, HIGH])
callers = st.one_of(
    st.tuples(
        st.builds(
            Call,
            ids,
            st.sampled_from(["good", "count", "none"]),
            st.sampled_from(["", "method"]),
            st.sampled_from(["", "b"]),
            st.sampled_from(["unary", "map", "map", "spawn", "generator", "round"]),
            st.just([]),
        ),
        payloads,
    ),
    st.tuples(st.builds(Inputs, ids, first, st.just([])), payloads),
    st.tuples(st.builds(EndInputs, ids, first, st.integers(0, 1)), st.none()),
    st.tuples(st.builds(Credit, ids, first), st.none()),
    st.tuples(st.builds(CancelCall, ids), st.none()),
    st.tuples(st.builds(Collect, st.integers(0, 3), ids), st.none()),
    st.tuples(st.builds(Bind, st.sampled_from(["good", "none"]), st.sampled_from(["", "b"]), st.just([])), payloads),
    st.tuples(st.builds(Entered), st.none()),
)


@settings(max_examples=60 if LONG else 30)
@given(messages=st.lists(callers, min_size=1, max_size=8))
def test_whatever_a_caller_says_the_others_go_on(cluster, apps, messages):
    attack, good, count = apps
    if not containers_of(cluster, "attack"):
        attack.remote([], False)
    prefix = next(examples)
    functions = {"good": good.object_id, "count": count.object_id, "none": "none"}
    before = containers_of(cluster, "good")
    with Speaker(cluster, "attack") as speaker:
        try:
            for message, carried in messages:
                if hasattr(message, "call_id"):
                    message = message._replace(call_id=f"{prefix}-{message.call_id}")
                if isinstance(message, Call | Bind):
                    message = message._replace(function_id=functions[message.function_id])
                speaker.say(message, carried)
        except greenroom.ConnectionError:
            pass  # it was closed meanwhile
        assert list(good.map(range(20))) == list(range(20))
    assert containers_of(cluster, "good") == before
    assert list(count.remote_gen(3)) == [0, 1, 2]
