"""The supervisor by itself: ``python -m greenroom.agent`` with a real agent below it, and no worker."""

import signal
import subprocess
import sys
import time

import pytest

from greenroom.wire import messages as m
from tests.conftest import wait_for
from tests.worker.peer import alive, children_of, gone, program


def test_an_orderly_end_is_written_down(pair) -> None:
    one = pair(program("print('enter')", "print('exit')"))
    before = time.time()
    one.entered().stop()
    ended = one.ended()
    assert before <= ended.pop("at") <= time.time()
    assert ended == {"exit_code": 0, "signal": None, "deadline_expired": False, "killed": []}
    assert one.printed() == b"enter\nexit\n"


@pytest.mark.parametrize(("end", "code", "number"), [("os._exit(7)", 7, None), ("os.abort()", None, signal.SIGABRT)])
def test_how_the_agent_ended_is_written_down(pair, end: str, code: int | None, number: int | None) -> None:
    one = pair(program(end))
    one.welcomed()
    ended = one.ended()
    assert (ended["exit_code"], ended["signal"]) == (code, number)


def test_the_deadline_of_the_exit_phase_needs_nobody(pair) -> None:
    one = pair(program(exit="while True: time.sleep(1)"), exit_grace=0.3)
    one.entered()
    one.worker_dies()
    one.server_dies()
    assert one.process.wait(30) == 0
    assert not one.run.exists()


MADE_ANEW = """
import fcntl, os, sys
from greenroom.agent.supervisor import _Supervisor

run, flock = sys.argv[1], fcntl.flock

def made_anew(fd, how):
    os.rename(run, run + ".gone")
    os.makedirs(run + "/containers")
    flock(os.open(run + "/lock", os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
    flock(fd, how)

fcntl.flock = made_anew
_Supervisor(0, -1, -1, -1, run + "/containers/ta-1", 1.0)._clear_away()
assert os.path.exists(run + "/lock") and os.path.isdir(run + "/containers")
"""


def test_what_another_took_away_meanwhile_and_the_next_server_made_anew_is_left_alone(tmp_path) -> None:
    (tmp_path / "run" / "containers" / "ta-1").mkdir(parents=True)
    (tmp_path / "run" / "lock").touch()
    subprocess.run([sys.executable, "-c", MADE_ANEW, tmp_path / "run"], check=True, timeout=60)


def test_a_missed_deadline_is_written_down(pair) -> None:
    one = pair(program(exit="while True: time.sleep(1)"), exit_grace=0.3)
    one.entered().stop()
    ended = one.ended()
    assert ended["deadline_expired"] and ended["signal"] == signal.SIGKILL


def test_sigterm_sets_the_backstop(pair) -> None:
    one = pair(program(), backstop=0.3)
    one.entered()
    one.process.terminate()
    assert one.ended()["deadline_expired"]


def test_the_agents_own_grace_replaces_the_backstop(pair) -> None:
    one = pair(program(exit="time.sleep(1.5)"), backstop=0.8, exit_grace=20)
    agent = one.entered()
    agent.stop()
    agent.until(m.Exiting)
    one.process.terminate()  # a deadline is set already, and stays
    assert one.ended()["exit_code"] == 0


def test_sigusr1_ends_it_now(pair) -> None:
    one = pair(program(exit="print('never')"))
    one.entered()
    one.process.send_signal(signal.SIGUSR1)
    ended = one.ended()
    assert (ended["signal"], ended["deadline_expired"]) == (signal.SIGKILL, False)
    assert one.printed() == b""


def test_the_workers_death_sets_the_backstop_and_leaves_the_directory_to_the_next(pair) -> None:
    one = pair(program(), backstop=0.3)
    one.entered()
    one.worker_dies()
    assert one.ended()["deadline_expired"]
    assert one.directory.exists()


def test_terminal_signals_do_not_end_it(pair) -> None:
    one = pair(program())
    agent = one.entered()
    one.process.send_signal(signal.SIGINT)
    one.process.send_signal(signal.SIGHUP)
    agent.stop()
    assert one.ended()["exit_code"] == 0


def test_a_tree_of_daemons_is_killed(pair) -> None:
    source = """
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                for _ in range(3):
                    if os.fork() == 0:
                        os.setsid()
                        os.write(1, b'%d\\n' % os.getpid())
                        while True: time.sleep(100)
                os.write(1, b'%d\\n' % os.getpid())
                os._exit(0) if _ % 2 else time.sleep(100)
    """
    one = pair(program(source))
    agent = one.entered()
    wait_for(lambda: (one.directory / "output").read_bytes().count(b"\n") == 12)
    agent.stop()
    ended = one.ended()
    pids = [int(line) for line in one.printed().split()]
    assert len(ended["killed"]) == 12
    assert not [pid for pid in pids if alive(pid)]


def test_zombies_are_reaped_while_it_lives(pair) -> None:
    one = pair(program("if os.fork() == 0:\n    os._exit(0) if os.fork() else time.sleep(0.2) or os._exit(0)"))
    agent = one.entered()
    wait_for(lambda: children_of(one.process.pid) == [one.agent_pid()])
    agent.stop()
    one.ended()


def test_the_agent_notices_its_supervisors_death(pair) -> None:
    one = pair(program(exit="print('exit')"))
    one.entered()
    agent = one.agent_pid()
    one.process.kill()
    gone(agent, 20)
    assert one.printed() == b"exit\n"


def test_nothing_dear_is_imported_before_the_fork() -> None:
    """What the supervisor imports, it keeps; and its agent waits for it."""
    script = (
        "import sys; before = set(sys.modules); import greenroom.agent.supervisor;"
        "print(*(set(sys.modules) - before) & {'asyncio', 'json', 'socket', 'subprocess', 'ctypes', 'logging', 'inspect', 'dataclasses'})"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout == "\n"


def test_nothing_is_said_before_both_connections_are_welcome(pair):
    """Or a server that reads the one long before the other would miss that the container is ready."""
    made = pair(program())
    agent = made.connected()
    agent.data.send(m.Welcome("sv-test", 1 << 20, 1 << 30))
    with pytest.raises(TimeoutError):
        agent.data.receive(0.5)
    agent.control.send(m.Welcome("sv-test", 1 << 20, 1 << 30))
    agent.until(m.Entered)
    agent.stop()
    assert made.ended()["exit_code"] == 0
