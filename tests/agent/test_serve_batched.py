"""Batches in an agent: what becomes one call, and what may happen to one input meanwhile."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.agent.serve_batched import by_shape, in_lists
from greenroom.wire import messages as m
from greenroom.wire.connection import encode
from tests.agent.test_serve import SLEEPER, results, settled
from tests.conftest import wait_for

OK, CANCELLED, ERROR = m.Status.OK, m.Status.CANCELLED, m.Status.ERROR
CALL = """def call(self, xs, ys=None):
        print("begins", len(xs), flush=True)
        if ys:
            time.sleep(600)
        return xs"""
ASYNC_CALL = """async def call(self, xs, ys=None):
        import asyncio
        print("begins", len(xs), flush=True)
        await asyncio.sleep(600 if ys else 0)
        return xs"""


@pytest.fixture(params=[CALL, ASYNC_CALL], ids=["sync", "async"])
def one(request, pair):
    return pair(SLEEPER.replace("{call}", request.param), needs_loop="async" in request.param, batch_size=8)


def run(agent, *inputs, more=False) -> None:
    """``(number, arguments)`` each."""
    items = [[seq, "fc-1", seq, "call", "map"] for seq, _ in inputs]
    agent.data.send(m.Run(items, [], more), [pickle.dumps((args, {})) for _, args in inputs])


def begins(one) -> list[bytes]:
    return [line for line in (one.directory / "output").read_bytes().splitlines() if line.startswith(b"begins")]


def test_a_batch_in_several_messages(one) -> None:
    agent = one.entered()
    run(agent, (0, (0,)), (1, (1,)), more=True)
    run(agent, (2, (2,)), more=True)
    settled(agent)
    run(agent, (3, (3,)))
    assert results(agent, 4) == [[seq, OK, ""] for seq in range(4)]
    assert begins(one) == [b"begins 4"]
    agent.stop()


def test_interrupts_before_the_batch_is_whole(one) -> None:
    agent = one.entered()
    agent.control.send(m.Interrupt(1))
    settled(agent)
    run(agent, (0, (0,)), (1, (1,)), (2, (2,)), more=True)
    agent.control.send(m.Interrupt(2))
    settled(agent)
    run(agent, (3, (3,)))
    ends = sorted(results(agent, 4))
    assert ends == [[0, OK, ""], [1, CANCELLED, ""], [2, CANCELLED, ""], [3, OK, ""]]
    assert begins(one) == [b"begins 2"]
    run(agent, (4, (4,)))
    assert results(agent, 1) == [[4, OK, ""]], "the next one isn't hit"
    agent.stop()


def test_a_batch_of_which_nothing_is_left_never_begins(one) -> None:
    agent = one.entered()
    for seq in (0, 1):
        agent.control.send(m.Interrupt(seq))
    settled(agent)
    run(agent, (0, (0,)), (1, (1,)))
    assert sorted(results(agent, 2)) == [[0, CANCELLED, ""], [1, CANCELLED, ""]]
    run(agent, (2, (2,)))
    assert results(agent, 1) == [[2, OK, ""]]
    assert begins(one) == [b"begins 1"]
    agent.stop()


def test_what_goes_into_no_common_list_is_a_batch_of_its_own(one) -> None:
    """And while another one of them runs, an input of it may be cancelled like any that waits."""
    agent = one.entered()
    run(agent, (0, (0, 1)), (1, (1,)), (2, (2, 1)), (3, (3,)), (4, (4, 1, 2)))
    wait_for(lambda: begins(one) == [b"begins 2"])
    agent.control.send(m.Interrupt(1))
    assert results(agent, 1) == [[1, CANCELLED, ""]]
    agent.control.send(m.Interrupt(2))
    assert results(agent, 1) == [[2, CANCELLED, ""]], "the batch that runs is still wanted"
    agent.control.send(m.Interrupt(0))
    assert sorted(results(agent, 3)) == [[0, CANCELLED, ""], [3, OK, ""], [4, ERROR, ""]]
    assert begins(one) == [b"begins 2", b"begins 1"]
    agent.stop()


def test_all_of_a_batch_at_once(one) -> None:
    """None of them is let go before its code has stopped."""
    agent = one.entered()
    run(agent, *((seq, (seq, 1)) for seq in range(5)))
    wait_for(lambda: begins(one))
    agent.control.send_encoded(b"".join(encode(m.Interrupt(seq))[0] for seq in range(5)), [])
    assert agent.until(m.Results).items == [[seq, CANCELLED, ""] for seq in range(5)]
    agent.stop()


def f(x, y=0, *rest, z=0, **named):
    """Takes anything."""


values = st.integers()
calls = st.tuples(
    st.lists(values, min_size=1, max_size=4).map(tuple), st.dictionaries(st.sampled_from(["y", "z", "a"]), values)
)


@given(st.lists(calls, min_size=1, max_size=8))
def test_every_call_is_in_one_group_and_reads_there_as_it_was_written(written):
    groups = by_shape(dict(enumerate(written)), f)
    assert sorted(seq for group in groups for seq in group) == list(range(len(written)))
    for group in groups:
        args, kwargs = in_lists(list(group.values()))
        assert {len(column) for column in [*args, *kwargs.values()]} == {len(group)}
        for place, (seq, (own_args, own_kwargs)) in enumerate(group.items()):
            assert tuple(column[place] for column in args) == own_args
            assert {name: column[place] for name, column in kwargs.items()} == own_kwargs
            given_args, given_kwargs = written[seq]
            if len(given_args) > 1 and "y" in given_kwargs:
                assert (own_args, own_kwargs) == written[seq], "Python is to say that it is wrong"
            else:
                assert own_args + tuple(own_kwargs[name] for name in sorted(own_kwargs)) in (
                    given_args + tuple(given_kwargs[name] for name in sorted(given_kwargs)),
                    (
                        *given_args,
                        given_kwargs.get("y", 0),
                        *(given_kwargs[n] for n in sorted(given_kwargs) if n != "y"),
                    ),
                )


def test_what_python_knows_no_parameters_of_goes_by_how_it_is_written():
    assert by_shape({0: ((1,), {}), 1: ((), {"x": 1}), 2: ((2,), {})}, max) == [
        {0: ((1,), {}), 2: ((2,), {})},
        {1: ((), {"x": 1})},
    ]
