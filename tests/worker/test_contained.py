"""Real containers through a real worker: what differs from plain processes, and every kind of end."""

import itertools
import os
import signal
from pathlib import Path

import pytest

from greenroom.model.spec import Limits
from greenroom.wire import messages as m
from tests.conftest import Need, assert_nothing_left, groups_of, mounts_of, wait_for
from tests.worker.peer import SETTINGS, Peer, children_of, gone, program


def test_it_is_alone_on_a_root_of_its_own(contained: Peer) -> None:
    contained.start(
        "ta-1",
        program(
            """
            import json, socket
            print(json.dumps({
                "pid": os.getpid(), "processes": [p for p in os.listdir("/proc") if p.isdigit()],
                "cwd": os.getcwd(), "home": os.environ["HOME"], "host": socket.gethostname(),
                "program": __file__, "names": sorted(os.environ),
                "hosts": "ta-1" in open("/etc/hosts").read(), "user": os.getuid(),
            }))
            """
        ),
        {"ASKED": "1"},
    )
    contained.entered().stop()
    assert contained.ended() == m.ContainerEnded("ta-1", "", True)
    import json

    seen = json.loads(contained.logs["ta-1"])
    assert set(seen["processes"]) == {"1", str(seen["pid"])}
    assert (seen["cwd"], seen["home"], seen["program"]) == ("/root", "/root", "/root/program.py")
    assert (seen["host"], seen["hosts"], seen["user"]) == ("ta-1", True, 0)
    assert "ASKED" in seen["names"] and "GREENROOM_RUN" not in seen["names"] and "GREENROOM_HOME" not in seen["names"]


def test_of_etc_it_has_what_programs_need_and_no_more(contained: Peer) -> None:
    contained.start(
        "ta-1",
        program(
            """
            import json, pwd, socket
            read = lambda path: open(path).read()
            print(json.dumps({
                "etc": sorted(os.listdir("/etc")), "ssl": sorted(os.listdir("/etc/ssl")), "servers": read("/etc/resolv.conf"),
                "users": [each.pw_name for each in pwd.getpwall()], "home": os.path.expanduser("~root"),
                "local": socket.gethostbyname("localhost"), "own": socket.gethostbyname(socket.gethostname()),
                "homes": os.listdir("/home"), "var": sorted(os.listdir("/var")),
            }))
            """
        ),
    )
    contained.entered().stop()
    assert contained.ended().reason == ""
    import json

    seen = json.loads(contained.logs["ta-1"])
    needed = {"group", "hostname", "hosts", "passwd", "resolv.conf", "shells", "ssl"}
    where_the_host_has_them = (
        "alternatives ca-certificates crypto-policies ld.so.cache localtime nsswitch.conf pki protocols services"
    )
    assert needed <= set(seen["etc"]) <= needed | set(where_the_host_has_them.split())
    assert (seen["ssl"], seen["homes"], seen["var"]) == (["certs"], [], ["tmp"])
    assert seen["servers"] == Path("/etc/resolv.conf").read_text()
    assert (seen["users"], seen["home"], seen["local"]) == (["root", "nobody"], "/root", "127.0.0.1")
    assert seen["own"].startswith("127.")


def test_the_hosts_mount_table_stays_clean(contained: Peer) -> None:
    contained.start("ta-1", program())
    agent = contained.entered()
    assert mounts_of(contained.home) == []
    worker = Path(f"/proc/{contained.pid}/mountinfo").read_text().splitlines()
    assert not [line for line in worker if "/run/greenroom/ta-1" in line], "detached once the container had its own"
    agent.stop()
    contained.ended()
    assert not contained.directory("ta-1").exists()


def test_its_files_are_read_only_and_all_else_is_writable(contained: Peer) -> None:
    contained.start(
        "ta-1",
        program(
            """
            for path in ("/root/program.py", "/usr/x", "/etc/x", "/root/x", "/tmp/x", "/dev/shm/x", "/x", "/sys/x"):
                try:
                    open(path, "a").close()
                    print(path, "written")
                except OSError as error:
                    print(path, error.strerror)
            """
        ),
    )
    contained.entered().stop()
    contained.ended()
    assert dict(line.split(" ", 1) for line in contained.logs["ta-1"].decode().splitlines()) == {
        "/root/program.py": "Permission denied",
        "/usr/x": "Read-only file system",
        "/sys/x": "Read-only file system",
        **dict.fromkeys(("/etc/x", "/root/x", "/tmp/x", "/dev/shm/x", "/x"), "written"),
    }


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("os._exit(3)", "exit status 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by signal 11 (SIGSEGV)"),
        ("bytearray(512 << 20)", "out of memory: limit 64 MiB"),
    ],
)
def test_the_reason_says_how_it_ended(contained: Peer, end: str, reason: str) -> None:
    contained.start("ta-1", program(end), limits=Limits(memory_limit=64))
    contained.agent()
    assert contained.ended() == m.ContainerEnded("ta-1", reason, True)


def test_a_fork_bomb_meets_its_limit(home: Path) -> None:
    Need.runtime("crun")
    peer = Peer(home, SETTINGS._replace(sandbox="oci", pids_limit=32))
    peer.start(
        "ta-1",
        program(
            """
            made = 0
            try:
                while True:
                    if os.fork() == 0:
                        time.sleep(1000)
                    made += 1
            except OSError as error:
                print(made, error.strerror)
            """
        ),
    )
    agent = peer.entered()
    agent.stop()
    assert peer.ended().reason == ""
    made, why = peer.logs["ta-1"].decode().strip().split(" ", 1)
    assert 8 < int(made) < 32 and why == "Resource temporarily unavailable"
    peer.close()
    assert_nothing_left(home)


def test_a_limit_of_cores_is_kept(contained: Peer) -> None:
    contained.start("ta-1", program("while time.process_time() < 0.3: pass"), limits=Limits(cpu=0.1, cpu_limit=0.2))
    agent = contained.agent()
    agent.until(m.Entered)
    throttled = [
        int(line.split()[1])
        for group in groups_of(contained.home)
        for file in group.glob("*/cpu.stat")
        for line in file.read_text().splitlines()
        if line.startswith("nr_throttled")
    ]
    assert max(throttled) > 0
    agent.stop()
    contained.ended()


def test_a_blocked_network_is_loopback_alone(contained: Peer) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = f"""
            import socket
            print([name for _, name in socket.if_nameindex()])
            own = socket.create_server(("127.0.0.1", 0))
            socket.create_connection(own.getsockname()).close()
            try:
                socket.create_connection(("127.0.0.1", {port}), 5).close()
                print("connected")
            except OSError as error:
                print(error.strerror)
            """
        for name, block in (("ta-1", True), ("ta-2", False)):
            contained.start(name, program(source), limits=Limits(block_network=block))
            contained.entered().stop()
            contained.ended()
    assert contained.logs["ta-1"].decode().splitlines() == ["['lo']", "Connection refused"]
    assert contained.logs["ta-2"].decode().splitlines()[-1] == "connected"


def test_an_exit_phase_past_its_grace_is_killed(contained: Peer) -> None:
    contained.start("ta-1", program(exit="print('begun')\nwhile True: time.sleep(1)"))
    agent = contained.entered()
    agent.stop()
    assert contained.ended().reason == "its exit phase ran past its 2 s and was killed"
    assert contained.logs["ta-1"] == b"begun\n"


def test_kill_ends_it_now(contained: Peer) -> None:
    contained.start("ta-1", program(exit="print('never')"))
    pid = contained.until(m.ContainerStarted).pid
    contained.entered()
    contained.worker.send(m.SignalContainer("ta-1", "kill"))
    assert contained.ended() == m.ContainerEnded("ta-1", "killed", True)
    gone(pid)


def test_kill_while_it_starts(contained: Peer) -> None:
    source = program()
    for number in range(6):
        contained.start(f"ta-{number}", source)
        contained.worker.send(m.SignalContainer(f"ta-{number}", "kill"))
    assert {contained.ended().reason for _ in range(6)} == {"killed"}


def test_a_daemon_ends_with_its_container(contained: Peer) -> None:
    contained.start("ta-1", program("p = subprocess.Popen(['sleep', '1000'], env={}, start_new_session=True)"))
    pid = contained.until(m.ContainerStarted).pid
    agent = contained.entered()
    everything = [pid, *children_of(pid)]
    agent.stop()
    assert contained.ended().reason == ""
    for one in everything:
        gone(one, 1.0)


def test_when_process_one_is_killed_all_of_it_ends(contained: Peer) -> None:
    contained.start("ta-1", program(exit="time.sleep(1000)"))
    pid = contained.until(m.ContainerStarted).pid
    contained.entered()
    (agent,) = children_of(pid)
    os.kill(pid, signal.SIGKILL)
    assert contained.ended() == m.ContainerEnded("ta-1", "its supervisor was killed", True)
    gone(agent, 1.0)


def test_a_new_worker_takes_over(contained: Peer) -> None:
    contained.start("ta-1", program("print('enter')", "print('exit')"))
    agent = contained.entered()
    contained.log_until("ta-1", b"enter\n")
    contained.kill_worker()
    contained.start_worker()
    contained.worker.send(m.Adopt([["ta-1", len(contained.logs["ta-1"])]]))
    agent.stop()
    assert contained.ended() == m.ContainerEnded("ta-1", "", True)
    assert contained.logs["ta-1"] == b"enter\nexit\n"
    assert not contained.directory("ta-1").exists()


def test_a_new_worker_ends_what_the_server_does_not_know(contained: Peer) -> None:
    contained.start("ta-1", program())
    pid = contained.until(m.ContainerStarted).pid
    contained.entered()
    contained.kill_worker()
    contained.start_worker()
    contained.worker.send(m.Adopt([]))
    gone(pid)
    wait_for(lambda: not list((contained.run / "containers").glob("*")))


def test_when_the_server_dies_containers_exit_in_order_and_all_is_removed(contained: Peer) -> None:
    contained.start("ta-1", program(exit="time.sleep(0.5)"))
    pid = contained.until(m.ContainerStarted).pid
    contained.entered()
    contained.hang_up()
    contained.worker_ended()
    gone(pid)
    assert not contained.run.exists()


SLOW = """#!/bin/sh
echo $$ > {pid}
sleep 1000 &
wait
"""


def test_when_the_runtime_is_killed_in_mid_start_it_says_so(home: Path, tmp_path: Path) -> None:
    Need.runtime("crun")
    runtime = tmp_path / "crun-slow"
    runtime.write_text(SLOW.format(pid=tmp_path / "pid"))
    runtime.chmod(0o755)
    peer = Peer(home, SETTINGS._replace(sandbox="oci", runtime=str(runtime)))
    peer.start("ta-1", program())
    pid = int(wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    os.kill(pid, signal.SIGKILL)
    assert peer.ended() == m.ContainerEnded("ta-1", "could not start: crun-slow: was killed by signal 9", False)
    peer.close()
    assert_nothing_left(home)


def test_what_the_runtime_says_is_one_line(home: Path, tmp_path: Path) -> None:
    Need.runtime("crun")
    runtime = tmp_path / "crun-broken"
    runtime.write_text('#!/bin/sh\nwhile [ "$1" != --log ]; do shift; done\necho "it is broken" > "$2"\nexit 4\n')
    runtime.chmod(0o755)
    peer = Peer(home, SETTINGS._replace(sandbox="oci", runtime=str(runtime)))
    peer.start("ta-1", program())
    assert peer.ended() == m.ContainerEnded("ta-1", "could not start: crun-broken: it is broken", False)
    peer.close()
    assert_nothing_left(home)


def test_a_runtime_that_is_not_there_is_one_line(home: Path) -> None:
    peer = Peer(home, SETTINGS._replace(runtime="no-such-runtime"))
    peer.start("ta-1", program())
    ended = peer.ended()
    assert not ended.started
    assert ended.reason.startswith("could not start: real containers were asked for, and can't be had: ")
    peer.close()
    assert_nothing_left(home)


def test_many_in_a_row_leave_nothing_and_the_last_starts_as_the_first(contained: Peer) -> None:
    def state() -> tuple[int, int]:
        table = Path(f"/proc/{contained.pid}/mountinfo").read_text()
        return len(os.listdir(f"/proc/{contained.pid}/fd")), len(table.splitlines())

    def one(name: str) -> None:
        contained.start(name, program())
        contained.entered().stop()
        contained.ended(name)
        contained.agents.pop().close()

    one("ta-first")
    before = state()
    for number in range(20):
        one(f"ta-{number}")
    # The next container's launcher is made, and its descriptors opened, a moment after the last one's start.
    wait_for(lambda: state() == before, what="it holds what it held before")
    names = (f"ta-next-{number}" for number in itertools.count())
    few = lambda: len(children_of(contained.pid)) <= 1 or one(next(names))  # noqa: E731
    wait_for(few, what="what the last one's runtime left behind, the next start collects")
    assert not list((contained.run / "containers").iterdir())


def test_a_shared_directory_is_written_and_outlives_the_container(home: Path, tmp_path: Path) -> None:
    Need.runtime("crun")
    shared = tmp_path / "shared with a space"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "kept").write_text("kept")
    peer = Peer(home, SETTINGS._replace(sandbox="oci", shared_dirs=str(shared)))
    for number in range(3):
        peer.start(f"ta-{number}", program(f"open({str(shared / str(number))!r}, 'w').close()"))
        peer.entered().stop()
        assert peer.ended().reason == ""
    peer.close()
    assert_nothing_left(home)
    assert sorted(path.name for path in shared.iterdir()) == ["0", "1", "2", "kept"]


def test_a_supervisor_that_ends_at_once_is_an_end(contained: Peer) -> None:
    """Before anybody has looked at what the runtime left."""
    for number in range(4):
        contained.start(f"ta-{number}", program(), {"PYTHONHOME": "/nonexistent"})
        ended = contained.ended(f"ta-{number}")
        assert ended.started
        assert ended.reason == (
            "its supervisor ended before the agent began: exit status 1: ModuleNotFoundError: No module named 'encodings'"
        )


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_a_limit_that_nothing_can_start_in_is_out_of_memory(home: Path, limit: int) -> None:
    """Whether it is the runtime that meets it or the supervisor."""
    Need.runtime("crun")
    peer = Peer(home, SETTINGS._replace(sandbox="oci", runtime="crun"))
    peer.start("ta-1", program(), limits=Limits(memory_limit=limit))
    assert peer.ended().reason.removeprefix("could not start: ") == f"out of memory: limit {limit} MiB"
    peer.close()
    assert_nothing_left(home)


def test_a_closed_umask_closes_nothing_that_containers_need(home: Path) -> None:
    Need.runtime("crun")
    before = os.umask(0o077)
    try:
        peer = Peer(home, SETTINGS._replace(sandbox="oci", runtime="crun"))
        peer.start("ta-1", program())
        peer.entered().stop()
        assert peer.ended().reason == ""
        peer.close()
    finally:
        os.umask(before)
    assert_nothing_left(home)


def test_two_thousand_directories_one_in_another_are_removed(contained: Peer) -> None:
    contained.start("ta-1", program("for _ in range(2000):\n    os.mkdir('d')\n    os.chdir('d')"))
    contained.entered().stop()
    assert contained.ended().reason == ""
    assert not contained.directory("ta-1").exists()


def test_a_hole_in_the_output_is_no_output(contained: Peer) -> None:
    contained.start("ta-1", program("print('before')\nos.ftruncate(1, 1 << 40)\nprint('after')"))
    contained.entered().stop()
    assert contained.ended().reason == ""
    assert contained.logs["ta-1"].replace(b"\0", b"") == b"before\nafter\n"
    assert len(contained.logs["ta-1"]) < 1 << 20


def test_a_new_worker_whose_server_dies_at_once_lets_exit_hooks_run(home: Path, tmp_path: Path) -> None:
    Need.runtime("crun")
    tmp_path.chmod(0o777)
    peer = Peer(home, SETTINGS._replace(sandbox="oci", shared_dirs=str(tmp_path)))
    peer.start("ta-1", program(exit=f"time.sleep(1); open({str(tmp_path / 'proof')!r}, 'w').close()"))
    peer.entered()
    peer.kill_worker()
    peer.start_worker()
    peer.hang_up()
    peer.worker_ended()
    assert (tmp_path / "proof").exists()
    peer.close()
    assert_nothing_left(home)
