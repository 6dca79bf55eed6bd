"""An agent whose server has died: what it tells the next one, and what it does when there is none. The test is both servers."""

import os
import pickle
import signal
from typing import Any

import pytest

from greenroom.wire import messages as m
from greenroom.wire.lasting import read_lasting
from greenroom.wire.returning_messages import Kept, Resume, Returning
from tests.conftest import wait_for
from tests.worker.peer import PROGRAM, Agent

SYNC = """def call(self, x):
        print("begins", x, flush=True)
        while x and not os.path.exists(str(x)):
            time.sleep(0.01)
        return x"""
ASYNC = SYNC.replace("def call", "async def call").replace("time.sleep", "await asyncio.sleep")
GENERATOR = """def call(self, x):
        yield x
        time.sleep(600)"""
KINDS = {
    "serial": {},
    "threads": {"max_inputs": 2},
    "loop, one by one": {"needs_loop": True},
    "loop, several": {"needs_loop": True, "max_inputs": 2},
    "batched": {"batch_size": 1},
}


def source(call: str) -> str:
    text = PROGRAM.format(enter="pass", exit='print("left", flush=True)')
    return "import asyncio, os\n" + text.replace("def call(self):\n        pass", call)


def of_kind(name: str) -> str:
    call = ASYNC if "loop" in name else SYNC
    if name == "batched":
        call = SYNC.replace("call(self, x):", "call(self, xs):\n        x = xs[0]").replace("return x", "return xs")
    return source(call)


def run(agent: Agent, *seqs_and_arguments: tuple[int, int], shape: str = "unary") -> None:
    items = [[seq, f"fc-{seq}", 0, "call", shape] for seq, _ in seqs_and_arguments]
    agent.data.send(m.Run(items, []), [pickle.dumps(((x,), {})) for _, x in seqs_and_arguments])


def begun(pair: Any, x: int) -> None:
    wait_for(lambda: f"begins {x}".encode() in pair.printed(), what=f"{x} runs")


def come_back(pair: Any) -> tuple[Agent, Returning]:
    """The next server: what the container says to it."""
    pair.server_dies(lock=False)
    pair.listen()
    agent = pair.welcomed()
    message, _ = agent.data.receive(30)
    assert isinstance(message, Returning)
    return agent, message


def results(agent: Agent, count: int) -> list[list[Any]]:
    found: list[list[Any]] = []
    while len(found) < count:
        found += agent.until(m.Results).items
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_runs_goes_on_and_what_waits_is_given_back(pair, kind) -> None:
    one = pair(of_kind(kind), reconnect=20.0, **KINDS[kind])
    agent = one.entered()
    run(agent, (0, 7))
    begun(one, 7)
    several = "max_inputs" in KINDS[kind]
    if several:
        run(agent, (1, 8))
        begun(one, 8)
    elif kind == "serial":
        run(agent, (1, 8), (2, 9))  # they wait behind it
        agent.control.send(m.Revoke([1000]))
        assert agent.control.receive(30)[0] == m.Returned([1000])
    agent, message = come_back(one)
    assert message.items[0] == [0, "fc-0", 0, "call", "unary"]
    assert [item[0] for item in message.items] == ([0, 1] if several else [0])
    agent.data.send(Resume())
    (one.directory / "home" / "7").touch()
    assert results(agent, 1) == [[0, "ok", ""]]
    run(agent, (message.next_seq, 0))
    assert results(agent, 1) == [[message.next_seq, "ok", ""]]
    (one.directory / "home" / "8").touch()
    if several:
        assert results(agent, 1) == [[1, "ok", ""]]
    agent.stop()
    agent.until(m.Exited)
    assert one.ended()["exit_code"] == 0


@pytest.mark.parametrize("kind", ["serial", "loop, one by one", "batched"])
def test_a_result_is_told_again_until_it_is_kept(pair, kind) -> None:
    one = pair(of_kind(kind), reconnect=20.0, **KINDS[kind])
    agent = one.entered()
    run(agent, (0, 0))
    results(agent, 1)
    run(agent, (1, 0))
    results(agent, 1)
    agent.control.send(Kept([0]))
    agent.control.send(m.Revoke([1000]))  # what was said before it has been heard once it is answered
    agent.control.receive(30)
    for _ in range(2):  # and by each server that doesn't say so
        agent, message = come_back(one)
        assert [item[0] for item in message.items] == [1]
        agent.data.send(Resume())
        assert results(agent, 1) == [[1, "ok", ""]]
    agent.control.send(Kept([1]))
    agent.control.send(m.Revoke([1000]))
    agent.control.receive(30)
    agent, message = come_back(one)
    assert message.items == []
    agent.data.send(Resume())
    agent.stop()
    agent.until(m.Exited)


def test_a_server_that_dies_before_it_resumes_is_followed_by_another(pair) -> None:
    one = pair(of_kind("serial"), reconnect=20.0)
    agent = one.entered()
    run(agent, (0, 7))
    begun(one, 7)
    come_back(one)
    agent, message = come_back(one)
    assert [item[0] for item in message.items] == [0]
    (one.directory / "home" / "7").touch()
    agent.data.send(Resume())
    assert results(agent, 1) == [[0, "ok", ""]]
    agent.stop()


def test_values_are_nobodys_once_their_connection_is_gone(pair) -> None:
    one = pair(source(GENERATOR), reconnect=20.0)
    agent = one.entered()
    run(agent, (0, 7), shape="generator")
    agent.until(m.Yielded)
    agent, message = come_back(one)
    assert message.items == [[0, "fc-0", 0, "call", "generator"]]
    agent.data.send(Resume())
    assert results(agent, 1) == [[0, "cancelled", ""]]
    agent.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_does_not_know_it_is_its_end(pair, kind) -> None:
    one = pair(of_kind(kind), reconnect=60.0, **KINDS[kind])
    one.entered()
    one.server_dies(lock=False)
    one.listen()
    agent = one.connected(1)
    agent.control.send(m.Refused("the token is not one of this server's"))
    assert one.ended()["exit_code"] == 0
    assert b"left" in one.printed()


@pytest.mark.parametrize("kind", KINDS)
def test_without_another_server_it_ends_in_order(pair, kind) -> None:
    one = pair(of_kind(kind), reconnect=0.5, **KINDS[kind])
    agent = one.entered()
    run(agent, (0, 7))
    begun(one, 7)
    one.server_dies()
    assert one.ended()["exit_code"] == 0
    assert b"left" in one.printed()


def told_to_stop(agent: Agent) -> None:
    """It has heard that: one that runs inputs one by one, on its control connection alone while it runs one."""
    agent.control.send(m.Stop("test"))
    agent.data.send(m.Stop("test"))
    agent.control.send(m.Revoke([1000]))
    agent.control.receive(30)


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_was_told_to_stop_finishes_under_the_next_server(pair, kind) -> None:
    one = pair(of_kind(kind), reconnect=20.0, **KINDS[kind])
    agent = one.entered()
    run(agent, (0, 7))
    begun(one, 7)
    told_to_stop(agent)
    agent, message = come_back(one)
    assert (message.items, message.stopping) == ([[0, "fc-0", 0, "call", "unary"]], True)
    agent.data.send(Resume())
    agent.data.send(m.Stop("test"))
    (one.directory / "home" / "7").touch()
    assert results(agent, 1) == [[0, "ok", ""]]
    agent.until(m.Exiting)
    agent.until(m.Exited)
    assert one.ended()["exit_code"] == 0
    assert b"left" in one.printed()


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_finished_while_there_was_no_server_is_told_before_it_ends(pair, kind) -> None:
    one = pair(of_kind(kind), reconnect=20.0, **KINDS[kind])
    agent = one.entered()
    run(agent, (0, 7))
    begun(one, 7)
    told_to_stop(agent)
    one.server_dies(lock=False)
    (one.directory / "home" / "7").touch()
    wait_for(lambda: read_lasting(one.ledger).results, what="it has ended")
    one.listen()
    agent = one.welcomed()
    message, _ = agent.data.receive(30)
    assert message == Returning([[0, "fc-0", 0, "call", "unary"]], 1, True)
    assert b"left" not in one.printed()
    agent.data.send(Resume())
    assert results(agent, 1) == [[0, "ok", ""]]
    agent.until(m.Exited)
    assert one.ended()["exit_code"] == 0


def test_one_that_was_told_to_stop_and_has_nothing_left_to_tell_looks_for_nobody(pair) -> None:
    one = pair(of_kind("threads"), reconnect=600.0, max_inputs=2)
    agent = one.entered()
    run(agent, (0, 7))
    begun(one, 7)
    told_to_stop(agent)
    agent.control.send(Kept([0]))
    agent.control.send(m.Revoke([1000]))
    agent.control.receive(30)
    one.server_dies()
    (one.directory / "home" / "7").touch()
    assert one.ended()["exit_code"] == 0
    assert b"left" in one.printed()


def test_one_that_was_told_to_stop_waits_no_longer_than_for_others(pair) -> None:
    one = pair(of_kind("serial"), reconnect=0.5)
    agent = one.entered()
    run(agent, (0, 7))
    begun(one, 7)
    told_to_stop(agent)
    one.server_dies()
    assert one.ended()["exit_code"] == 0
    assert b"left" in one.printed()


# ---- what is left when it dies itself ----


@pytest.mark.parametrize("kind", KINDS)
def test_its_ledger_says_what_had_begun_and_how_what_had_ended_did(pair, kind) -> None:
    one = pair(of_kind(kind), reconnect=20.0, **KINDS[kind])
    agent = one.entered()
    run(agent, (0, 0))
    results(agent, 1)
    run(agent, (1, 0))
    results(agent, 1)
    agent.control.send(Kept([0]))
    agent.control.send(m.Revoke([1000]))
    agent.control.receive(30)
    several = kind in ("threads", "loop, several")
    run(agent, (2, 7))
    begun(one, 7)
    if several:
        run(agent, (3, 8))
        begun(one, 8)
    else:
        run(agent, (3, 9))  # it waits
    one.server_dies(lock=False)
    os.kill(one.agent_pid(), signal.SIGKILL)
    assert one.ended()["signal"] == signal.SIGKILL
    left = read_lasting(one.ledger)
    assert [item[:2] for item in left.items] == [[n, f"fc-{n}"] for n in ([1, 2, 3] if several else [1, 2])]
    assert [(seq, status) for seq, status, _ in left.results] == [(1, "ok")]


def test_the_supervisor_leaves_the_ledger_of_an_agent_that_died(pair) -> None:
    one = pair(of_kind("serial"), reconnect=20.0)
    agent = one.entered()
    run(agent, (0, 7))
    begun(one, 7)
    one.server_dies()
    one.worker_dies()
    os.kill(one.agent_pid(), signal.SIGKILL)
    assert one.process.wait(30) == 0
    assert (one.directory / "ledger").exists()


def test_the_supervisor_clears_away_the_ledger_of_an_agent_that_ended_in_order(pair) -> None:
    one = pair(of_kind("serial"), reconnect=0.5)
    agent = one.entered()
    run(agent, (0, 7))
    begun(one, 7)
    one.server_dies()
    one.worker_dies()
    assert one.process.wait(30) == 0
    assert not one.run.exists()


def test_the_workers_death_is_no_end_once_another_server_has_it(pair) -> None:
    one = pair(of_kind("serial"), reconnect=20.0, backstop=1.0)
    one.entered()
    agent, _ = come_back(one)
    agent.data.send(Resume())
    run(agent, (0, 7))
    begun(one, 7)
    one.worker_dies()
    with pytest.raises(TimeoutError):
        agent.data.receive(2.0)  # it lives past the backstop
    (one.directory / "home" / "7").touch()
    assert results(agent, 1) == [[0, "ok", ""]]
    agent.stop()
    agent.until(m.Exited)
