"""What a container had begun when it died, as whichever worker is there by then tells it, until that is settled."""

import os
import pickle
import signal

import pytest

from greenroom.model.errors import ConnectionError
from greenroom.wire import messages as m
from greenroom.wire.returning_messages import Settled
from tests.conftest import wait_for
from tests.worker.peer import PROGRAM, Peer, children_of, gone

SOURCE = PROGRAM.format(enter="pass", exit="pass").replace(
    "def call(self):\n        pass",
    "def call(self, x):\n        print('begins', x, flush=True)\n        time.sleep(x)\n        return x",
)


def begin(peer: Peer, *, reconnect: float = 60.0) -> int:
    """A container that has ended one input, and runs another; its supervisor's process id."""
    peer.start("ta-1", SOURCE, reconnect=reconnect)
    pid: int = peer.until(m.ContainerStarted).pid
    agent = peer.entered()
    for seq, x in ((0, 0), (1, 600)):
        items = [[seq, "fc-1", 7 + seq, "call", "map"]]
        agent.data.send(m.Run(items, []), [pickle.dumps(((x,), {}))])
        peer.log_until("ta-1", f"begins {x}\n".encode())
    return pid


ITEMS = [[0, "fc-1", 7, "call", "map"], [1, "fc-1", 8, "call", "map"]]
ENDED = m.ContainerEnded("ta-1", "killed by signal 9 (SIGKILL)", True, 1, [0], [1], ["ok"], ITEMS)


def told(peer: Peer) -> m.ContainerEnded:
    message = peer.ended()
    return message._replace(sizes=[1] * len(message.sizes))


def adopt(peer: Peer, *names: str) -> None:
    peer.worker.send(m.Adopt([[name, len(peer.logs.get(name, b""))] for name in names]))


def test_its_own_worker_tells_it(peer: Peer) -> None:
    (agent,) = children_of(begin(peer))
    os.kill(agent, signal.SIGKILL)
    assert told(peer) == ENDED


@pytest.mark.parametrize("first", ["worker", "agent"])
def test_the_next_worker_tells_it(peer: Peer, first: str) -> None:
    pid = begin(peer)
    (agent,) = children_of(pid)
    if first == "worker":
        peer.kill_worker()
    os.kill(agent, signal.SIGKILL)
    gone(pid)
    if first == "agent":
        peer.kill_worker()
    peer.start_worker()
    adopt(peer, "ta-1")
    assert told(peer) == ENDED


def test_it_is_told_again_until_it_is_settled(peer: Peer) -> None:
    (agent,) = children_of(begin(peer))
    os.kill(agent, signal.SIGKILL)
    assert told(peer) == ENDED
    assert not peer.directory("ta-1").exists()
    aside = peer.run / "ended" / "ta-1"
    for _ in range(2):
        assert aside.exists()
        peer.kill_worker()
        peer.start_worker()
        adopt(peer, "ta-1")
        assert told(peer) == ENDED
    peer.worker.send(Settled("ta-1"))
    wait_for(lambda: not aside.exists(), what="it is forgotten")
    peer.kill_worker()
    peer.start_worker()
    adopt(peer, "ta-1")
    assert peer.ended() == m.ContainerEnded("ta-1", "lost", False)


def test_what_no_server_asks_for_is_forgotten(peer: Peer) -> None:
    (agent,) = children_of(begin(peer))
    os.kill(agent, signal.SIGKILL)
    assert told(peer) == ENDED
    peer.kill_worker()
    peer.start_worker()
    adopt(peer)
    wait_for(lambda: not (peer.run / "ended" / "ta-1").exists(), what="it is forgotten")


def test_what_is_left_beside_it_is_cleared_up_and_not_told(peer: Peer) -> None:
    """The worker died between the two."""
    (agent,) = children_of(begin(peer))
    os.kill(agent, signal.SIGKILL)
    assert told(peer) == ENDED
    peer.kill_worker()
    peer.directory("ta-1").mkdir()
    peer.start_worker()
    adopt(peer, "ta-1")
    assert told(peer) == ENDED
    wait_for(lambda: not peer.directory("ta-1").exists(), what="its directory goes")
    peer.worker.send(m.Shutdown(0))
    with pytest.raises(ConnectionError):
        peer.ended()
    peer.shut_down()


def test_one_that_ends_with_its_server_leaves_no_file(peer: Peer) -> None:
    (agent,) = children_of(begin(peer, reconnect=0.0))
    assert not (peer.directory("ta-1") / "ledger").exists()
    os.kill(agent, signal.SIGKILL)
    assert peer.ended().items == []
    assert not (peer.run / "ended").exists()
