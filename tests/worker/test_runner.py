"""One container's way through a real worker: start, output, every kind of end."""

import os
import signal
from pathlib import Path

import pytest

from greenroom.wire import messages as m
from greenroom.wire.output_messages import HoldOutput, LeaveOutput
from tests.conftest import wait_for
from tests.worker.peer import SETTINGS, Peer, children_of, gone, now, program


def test_output_comes_in_order_and_whole_before_the_end(peer: Peer) -> None:
    peer.start("ta-1", program("print('enter')", "for i in range(2000): print('exit', i)\nprint('last', end='')"))
    assert peer.until(m.ContainerStarted).container_id == "ta-1"
    agent = peer.entered()
    agent.stop()
    agent.until(m.Exited)
    assert peer.ended() == m.ContainerEnded("ta-1", "", True)
    assert peer.logs["ta-1"].decode().splitlines() == ["enter", *[f"exit {i}" for i in range(2000)], "last"]
    assert not peer.directory("ta-1").exists()


def test_a_print_arrives_while_the_container_lives(peer: Peer) -> None:
    peer.start("ta-1", program("print('half a line', end='')"))
    agent = peer.entered()
    peer.log_until("ta-1", b"half a line")
    agent.stop()
    peer.ended()


def test_much_output_arrives_whole(peer: Peer) -> None:
    peer.start("ta-1", program(exit="for _ in range(64): os.write(1, b'x' * (1 << 20))"))
    peer.entered().stop()
    assert peer.ended().reason == ""
    assert len(peer.logs["ta-1"]) == 64 << 20


def test_output_that_nobody_reads_waits_and_so_does_the_end(peer: Peer) -> None:
    """The container itself doesn't; nor does another one."""
    peer.start("ta-1", program("print('first', flush=True)", "print('last')"))
    agent = peer.entered()
    peer.log_until("ta-1", b"first")
    peer.worker.send(HoldOutput("ta-1", True))
    peer.start("ta-2", program("print('other', flush=True)"))
    other = peer.entered()  # so the worker has heard of the former too
    agent.stop()
    agent.until(m.Exited)
    other.stop()
    assert peer.ended().container_id == "ta-2"
    assert peer.logs == {"ta-1": b"first\n", "ta-2": b"other\n"}
    peer.worker.send(HoldOutput("ta-1", False))
    assert peer.ended() == m.ContainerEnded("ta-1", "", True)
    assert peer.logs["ta-1"] == b"first\nlast\n"


def test_output_that_waits_can_be_left_in_its_file(peer: Peer) -> None:
    peer.start("ta-1", program("print('first', flush=True)", "print('last')"))
    agent = peer.entered()
    peer.log_until("ta-1", b"first")
    peer.worker.send(HoldOutput("ta-1", True))
    peer.worker.send(LeaveOutput(""))
    peer.start("ta-2", program())
    peer.entered()  # so the worker has heard of that
    agent.stop()
    assert peer.ended("ta-1") == m.ContainerEnded("ta-1", "", True)
    assert peer.logs == {"ta-1": b"first\n"}
    assert (peer.home / "logs" / "ta-1.log").read_bytes() == b"first\nlast\n"


def test_output_that_waits_holds_up_no_worker_whose_server_died(peer: Peer) -> None:
    peer.start("ta-1", program("print('first', flush=True)", "print('last')"))
    agent = peer.entered()
    peer.worker.send(HoldOutput("ta-1", True))
    agent.stop()
    agent.until(m.Exited)
    peer.hang_up()
    peer.worker_ended()


def test_what_was_handed_on_takes_no_room_on_the_disk(peer: Peer) -> None:
    peer.start("ta-1", program("for _ in range(64): os.write(1, b'x' * (1 << 20))\nprint('!')"))
    agent = peer.entered()
    peer.log_until("ta-1", b"!")
    output = peer.directory("ta-1") / "output"
    assert output.stat().st_size == (64 << 20) + 2
    assert output.stat().st_blocks * 512 < 32 << 20
    agent.stop()
    peer.ended()


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("os._exit(3)", "exit status 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by signal 11 (SIGSEGV)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9 (SIGKILL)"),
        ("os.kill(os.getpid(), 40)", "killed by signal 40"),
    ],
)
def test_the_reason_says_how_the_agent_ended(peer: Peer, end: str, reason: str) -> None:
    peer.start("ta-1", program(end))
    peer.agent()
    assert peer.ended() == m.ContainerEnded("ta-1", reason, True)


def test_an_exit_phase_past_its_grace_is_killed_by_the_supervisor(peer: Peer) -> None:
    peer.start("ta-1", program(exit="print('begun')\nwhile True: time.sleep(1)"))
    agent = peer.entered()
    agent.stop()
    agent.until(m.Exiting)
    begun = now()
    assert peer.ended().reason == "its exit phase ran past its 2 s and was killed"
    assert now() - begun > SETTINGS.exit_grace - 0.5
    assert peer.logs["ta-1"] == b"begun\n"


def test_kill_ends_it_now(peer: Peer) -> None:
    peer.start("ta-1", program("print(os.getpid())", "print('never')"))
    peer.entered()
    peer.log_until("ta-1", b"\n")
    peer.worker.send(m.SignalContainer("ta-1", "kill"))
    assert peer.ended() == m.ContainerEnded("ta-1", "killed", True)
    gone(int(peer.logs["ta-1"]))


def test_kill_while_it_starts(peer: Peer) -> None:
    """Wherever in its start-up the kill meets it."""
    source = program()
    for number in range(8):
        peer.start(f"ta-{number}", source)
        peer.worker.send(m.SignalContainer(f"ta-{number}", "kill"))
    reasons = {peer.ended().reason for _ in range(8)}
    assert reasons == {"killed"}


def test_kill_ends_a_stopped_supervisor(peer: Peer) -> None:
    peer.start("ta-1", program())
    pid = peer.until(m.ContainerStarted).pid
    peer.entered()
    os.kill(pid, signal.SIGSTOP)
    peer.worker.send(m.SignalContainer("ta-1", "kill"))
    assert peer.ended() == m.ContainerEnded("ta-1", "killed", True)


def test_watch_kills_what_is_not_gone_in_time(peer: Peer) -> None:
    peer.start("ta-1", program())
    peer.entered()
    peer.worker.send(m.SignalContainer("ta-1", "watch", 0.1))
    assert peer.ended().reason == "it was not gone after 0.1 s and was killed"


DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(100)
    os._exit(0)
else:
    os.wait()
"""


def test_a_double_forked_daemon_ends_with_its_container(peer: Peer) -> None:
    peer.start("ta-1", program(DAEMON))
    agent = peer.entered()
    peer.log_until("ta-1", b"\n")
    agent.stop()
    assert peer.ended().reason == ""
    gone(int(peer.logs["ta-1"]), 1.0)


def test_a_daemon_that_cleared_its_environment_ends_too(peer: Peer) -> None:
    peer.start(
        "ta-1",
        program("p = subprocess.Popen(['sleep', '1000'], env={}, start_new_session=True)\nprint(p.pid)"),
    )
    agent = peer.entered()
    peer.log_until("ta-1", b"\n")
    agent.stop()
    peer.ended()
    gone(int(peer.logs["ta-1"]), 1.0)


def test_when_its_supervisor_is_killed_the_agent_runs_its_exit_hooks(peer: Peer) -> None:
    peer.start("ta-1", program(exit="print('exit hook')"))
    pid = peer.until(m.ContainerStarted).pid
    peer.entered()
    (agent_pid,) = children_of(pid)
    os.kill(pid, signal.SIGKILL)
    assert peer.ended() == m.ContainerEnded("ta-1", "its supervisor was killed", True)
    assert peer.logs["ta-1"] == b"exit hook\n"
    gone(agent_pid)


def test_when_its_supervisor_is_killed_a_daemon_does_not_stay(peer: Peer) -> None:
    peer.start("ta-1", program(DAEMON, "print('exit hook')"))
    pid = peer.until(m.ContainerStarted).pid
    peer.entered()
    peer.log_until("ta-1", b"\n")
    daemon = int(peer.logs["ta-1"])
    os.kill(pid, signal.SIGKILL)
    assert peer.ended().reason == "its supervisor was killed"
    assert peer.logs["ta-1"].endswith(b"exit hook\n")
    gone(daemon, 1.0)


def test_when_its_supervisor_is_killed_a_stuck_agent_is_killed_at_last(peer: Peer) -> None:
    peer.start("ta-1", program(exit="while True: time.sleep(1)"))
    pid = peer.until(m.ContainerStarted).pid
    peer.entered()
    os.kill(pid, signal.SIGKILL)
    limit = SETTINGS.cancel_grace + SETTINGS.exit_grace + 5
    assert peer.ended().reason == f"it was not gone after {limit:g} s and was killed"


def test_the_environment_is_clean(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_CLIENT", "secret")
    monkeypatch.setenv("LC_TIME", "C")
    peer.kill_worker()
    peer.start_worker()
    peer.start("ta-1", program("print(sorted(os.environ)); print(os.environ['LC_TIME'], os.getcwd())"), {"ASKED": "1"})
    peer.entered().stop()
    peer.ended()
    names, rest = peer.logs["ta-1"].decode().splitlines()
    assert "'ASKED'" in names and "'GREENROOM_CONTAINER_ID'" in names and "'PATH'" in names
    assert "OF_THE_CLIENT" not in names and "GREENROOM_HOME" not in names
    assert rest == f"C {peer.directory('ta-1') / 'home'}"


def test_signals_are_as_a_program_expects_them(peer: Peer) -> None:
    peer.start(
        "ta-1",
        program(
            "print([signal.getsignal(s) for s in (1, 15, 17)], signal.pthread_sigmask(0, ()), os.getpgid(0) == os.getpid())"
        ),
    )
    peer.entered().stop()
    peer.ended()
    assert peer.logs["ta-1"].decode() == (
        "[<Handlers.SIG_DFL: 0>, <Handlers.SIG_DFL: 0>, <Handlers.SIG_DFL: 0>] set() True\n"
    )


def test_a_missing_bundle_is_one_line(peer: Peer) -> None:
    peer.start("ta-1", "", bundle="0" * 64)
    ended = peer.ended()
    assert ended.reason.startswith("could not start: can't unpack the program's files") and "\n" not in ended.reason
    assert not ended.started
    assert not peer.directory("ta-1").exists()


def test_a_supervisor_that_cannot_begin_says_why(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "greenroom").mkdir()
    (tmp_path / "greenroom" / "__init__.py").touch()
    peer.start("ta-1", program(), {"PYTHONPATH": str(tmp_path)})
    ended = peer.ended()
    before = "its supervisor ended before the agent began: exit status 1: "
    assert ended.reason.startswith(before) and ended.reason.endswith("No module named greenroom.agent")
    assert ended.started


def test_an_end_that_user_code_wrote_down_is_none(peer: Peer) -> None:
    """A number too large for one; then as if its supervisor had written nothing."""
    notes = peer.directory("ta-1") / "notes"
    forged = '{"exit_code": 1e999, "signal": null, "deadline_expired": false}'
    peer.start("ta-1", program(exit=f"f = open({str(notes)!r}, 'r+'); f.seek(1024); f.write({forged!r}); f.close()"
                                    "\nos.kill(os.getppid(), 9)"))  # fmt: skip
    peer.entered().stop()
    assert peer.ended().reason == "its supervisor was killed"


def test_an_impossible_environment_is_one_line(peer: Peer) -> None:
    peer.start("ta-1", program(), {"A": "with\0zero"})
    assert peer.ended() == m.ContainerEnded("ta-1", "could not start: embedded null byte", False)
    assert not peer.directory("ta-1").exists()


def test_a_scratch_directory_that_cannot_be_made_is_one_line(peer: Peer) -> None:
    (peer.run / "containers").write_text("in the way")
    peer.start("ta-1", program())
    ended = peer.ended()
    assert ended.reason.startswith("could not start: ") and str(peer.run) in ended.reason
    assert not ended.started
    (peer.run / "containers").unlink()


def test_files_that_user_code_locked_away_are_removed(peer: Peer) -> None:
    peer.start("ta-1", program("os.mkdir('d'); open('d/f', 'w').close(); os.chmod('d', 0)"))
    peer.entered().stop()
    peer.ended()
    assert not peer.directory("ta-1").exists()


def test_fifty_containers_in_a_row_leave_nothing(peer: Peer) -> None:
    def state() -> tuple[int, list[int], list[Path]]:
        return len(os.listdir(f"/proc/{peer.pid}/fd")), children_of(peer.pid), list((peer.run / "containers").glob("*"))

    source = "class Model:\n    def call(self): pass\n"
    before = None
    for number in range(50):
        peer.start(f"ta-{number}", source)
        peer.agent().close()
        assert peer.ended().container_id == f"ta-{number}"
        if number == 1:  # by now it has made what it makes once
            before = wait_for(lambda: (s := state())[1:] == ([], []) and s)
    assert state() == before
