"""An agent's two connections, which keep no order between them."""

import pickle
from pathlib import Path

import pytest

from greenroom.wire import messages as m
from tests.conftest import wait_for
from tests.worker.peer import PROGRAM

SLEEPER = PROGRAM.format(enter="pass", exit="pass").replace("def call(self):\n        pass", "{call}")
CALL = """def call(self, x):
        if x:
            time.sleep(600)
        return x"""
ASYNC_CALL = """async def call(self, x):
        import asyncio
        await asyncio.sleep(600 if x else 0)
        return x"""


def run(agent, seq: int, argument: int) -> None:
    agent.data.send(m.Run([[seq, "fc-1", seq, "call", "call"]], []), [pickle.dumps(((argument,), {}))])


def results(agent, count: int) -> list:
    found: list = []
    while len(found) < count:
        found += agent.until(m.Results).items
    return found


def settled(agent) -> list[int]:
    """Control messages are taken in order: once this one is answered, those before it have been."""
    agent.control.send(m.Revoke([1000]))
    returned, _ = agent.control.receive(30)
    return returned.seqs


@pytest.mark.parametrize("call", [CALL, ASYNC_CALL])
def test_an_interrupt_that_overtakes_its_input(pair, call) -> None:
    agent = pair(SLEEPER.replace("{call}", call), needs_loop="async" in call).entered()
    agent.control.send(m.Interrupt(0))
    settled(agent)
    run(agent, 0, 1)
    run(agent, 1, 0)
    assert results(agent, 2) == [[0, m.Status.CANCELLED, ""], [1, m.Status.OK, ""]], "the next one isn't hit"
    agent.stop()


def test_a_revoke_that_overtakes_its_input(pair) -> None:
    agent = pair(SLEEPER.replace("{call}", CALL)).entered()
    agent.control.send(m.Revoke([0]))
    returned, _ = agent.control.receive(30)
    assert returned.seqs == [0]
    run(agent, 0, 1)
    run(agent, 1, 0)
    assert results(agent, 1) == [[1, m.Status.OK, ""]]
    agent.stop()


def test_an_interrupt_while_a_value_leaves_cuts_no_frame(pair) -> None:
    """A caller that takes nothing: the agent waits in the middle of a write, and is interrupted there."""
    generator = """def call(self, n):
        print("begins", flush=True)
        for _ in range(n):
            yield b"x" * 1000_000"""
    one = pair(SLEEPER.replace("{call}", generator).replace("{exit}", "pass"))
    agent = one.entered()
    agent.data.send(m.Run([[0, "fc-1", 0, "call", "generator"]], []), [pickle.dumps(((50,), {}))])
    wait_for(lambda: b"begins" in (one.directory / "output").read_bytes())
    wait_for(lambda: _waits_for_room(one.agent_pid()))
    agent.control.send(m.Interrupt(0))
    settled(agent)
    assert results(agent, 1) == [[0, m.Status.CANCELLED, ""]]
    run(agent, 1, 0)
    agent.until(m.Results)
    agent.stop()
    agent.until(m.Exited)


def _waits_for_room(pid: int) -> bool:
    return "unix_stream_sendmsg" in (stack := Path(f"/proc/{pid}/wchan").read_text()) or "sock_alloc" in stack
