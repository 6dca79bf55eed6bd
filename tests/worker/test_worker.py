"""The worker as a whole: its own death and its successor, the server's death, its orderly end."""

import os
import signal

from greenroom.wire import messages as m
from tests.conftest import wait_for
from tests.worker.peer import Peer, children_of, gone, program


def test_shutdown_ends_it(peer: Peer) -> None:
    peer.worker.send(m.Shutdown(0))
    peer.shut_down()


def test_shutdown_ends_what_still_runs(peer: Peer) -> None:
    peer.start("ta-1", program())
    peer.entered()
    peer.worker.send(m.Shutdown(0))
    assert peer.ended() == m.ContainerEnded("ta-1", "the server shut down", True)
    peer.shut_down()


def test_signals_meant_for_the_terminal_do_not_end_it(peer: Peer) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(peer.pid, number)
    peer.start("ta-1", program())
    peer.entered().stop()
    assert peer.ended().reason == ""


def test_a_new_worker_takes_over(peer: Peer) -> None:
    peer.start("ta-1", program("print('enter')", "print('exit')"))
    agent = peer.entered()
    peer.log_until("ta-1", b"enter\n")
    peer.kill_worker()
    peer.start_worker()
    peer.worker.send(m.Adopt([["ta-1", len(peer.logs["ta-1"])]]))
    agent.stop()
    assert peer.ended() == m.ContainerEnded("ta-1", "", True)
    assert peer.logs["ta-1"] == b"enter\nexit\n"
    assert not peer.directory("ta-1").exists()


def test_what_a_container_said_between_two_workers_is_not_lost(peer: Peer) -> None:
    peer.start("ta-1", program("print('enter')", "print('exit')"))
    pid = peer.until(m.ContainerStarted).pid
    agent = peer.entered()
    peer.log_until("ta-1", b"enter\n")
    peer.kill_worker()
    agent.stop()
    agent.until(m.Exited)
    gone(pid)
    peer.start_worker()
    peer.worker.send(m.Adopt([["ta-1", len(peer.logs["ta-1"])]]))
    assert peer.ended() == m.ContainerEnded("ta-1", "", True)
    assert peer.logs["ta-1"] == b"enter\nexit\n"


def test_a_crash_between_two_workers_keeps_its_reason(peer: Peer) -> None:
    peer.start("ta-1", program())
    pid = peer.until(m.ContainerStarted).pid
    peer.entered()
    (agent,) = children_of(pid)
    peer.kill_worker()
    os.kill(agent, signal.SIGSEGV)
    gone(pid)
    peer.start_worker()
    peer.worker.send(m.Adopt([["ta-1", 0]]))
    assert peer.ended() == m.ContainerEnded("ta-1", "killed by signal 11 (SIGSEGV)", True)


def test_worker_and_supervisor_die_and_the_exit_hooks_still_run(peer: Peer) -> None:
    peer.start("ta-1", program(exit="print('exit')"))
    pid = peer.until(m.ContainerStarted).pid
    peer.entered()
    peer.kill_worker()
    os.kill(pid, signal.SIGKILL)
    peer.start_worker()
    peer.worker.send(m.Adopt([["ta-1", 0]]))
    assert peer.ended() == m.ContainerEnded("ta-1", "its supervisor was killed", True)
    assert peer.logs["ta-1"] == b"exit\n"


def test_a_container_that_is_nowhere_is_lost(peer: Peer) -> None:
    peer.kill_worker()
    peer.start_worker()
    peer.worker.send(m.Adopt([["ta-1", 0]]))
    assert peer.ended() == m.ContainerEnded("ta-1", "lost", False)


def test_a_container_that_never_began_is_lost(peer: Peer) -> None:
    """The worker died after it had made the directory."""
    peer.kill_worker()
    (peer.directory("ta-1") / "home").mkdir(parents=True)
    peer.start_worker()
    peer.worker.send(m.Adopt([["ta-1", 0]]))
    assert peer.ended() == m.ContainerEnded("ta-1", "lost", False)
    assert not peer.directory("ta-1").exists()


def test_a_new_worker_ends_what_the_server_does_not_know(peer: Peer) -> None:
    peer.start("ta-1", program())
    pid = peer.until(m.ContainerStarted).pid
    peer.entered()
    peer.kill_worker()
    (peer.directory("ta-dead") / "home").mkdir(parents=True)
    peer.start_worker()
    peer.worker.send(m.Adopt([]))
    gone(pid)
    wait_for(lambda: not list((peer.run / "containers").glob("*")))
    # The worker itself lives.
    peer.start("ta-2", program())
    peer.entered().stop()
    assert peer.ended("ta-2").reason == ""


def test_an_adopted_container_can_be_killed(peer: Peer) -> None:
    peer.start("ta-1", program())
    peer.entered()
    peer.kill_worker()
    peer.start_worker()
    peer.worker.send(m.Adopt([["ta-1", 0]]))
    peer.worker.send(m.SignalContainer("ta-1", "kill"))
    assert peer.ended() == m.ContainerEnded("ta-1", "killed", True)


def test_when_the_server_dies_containers_exit_in_order_and_all_is_removed(peer: Peer) -> None:
    proof = peer.home / "proof"
    peer.start("ta-1", program(exit=f"print('said after the server died'); open({str(proof)!r}, 'w').close()"))
    peer.entered()
    peer.hang_up()
    peer.worker_ended()
    assert proof.exists()
    assert not peer.run.exists()


def test_when_the_server_dies_a_stuck_container_is_killed(peer: Peer) -> None:
    peer.start("ta-1", program(exit="while True: time.sleep(1)"))
    pid = peer.until(m.ContainerStarted).pid
    peer.entered()
    peer.hang_up()
    peer.worker_ended()
    gone(pid)
    assert not peer.run.exists()


def test_when_server_and_worker_die_the_supervisors_clear_up(peer: Peer) -> None:
    proofs = [peer.home / f"proof{number}" for number in range(3)]
    for number, proof in enumerate(proofs):
        peer.start(f"ta-{number}", program(exit=f"time.sleep(0.2); open({str(proof)!r}, 'w').close()"))
        peer.entered()
    peer.kill_worker()
    peer.hang_up()
    wait_for(lambda: not peer.run.exists(), what="the last supervisor removes the run directory")
    assert all(proof.exists() for proof in proofs)


def test_garbage_from_the_server_is_its_end(peer: Peer) -> None:
    peer.start("ta-1", program())
    peer.entered()
    for agent in peer.agents:
        agent.close()
    peer.worker.sock.sendall(b"\xff" * 64)
    peer.worker_ended()
    assert not peer.run.exists()


def test_a_new_worker_whose_server_dies_at_once_lets_exit_hooks_run(peer: Peer) -> None:
    """It has not been told of the container, and finds it by itself."""
    proof = peer.home / "proof"
    peer.start("ta-1", program(exit=f"time.sleep(1); open({str(proof)!r}, 'w').close()"))
    peer.entered()
    peer.kill_worker()
    peer.start_worker()
    peer.hang_up()
    peer.worker_ended()
    assert proof.exists()
    assert not peer.run.exists()
