"""A child that the kernel killed long ago is not what ended its container."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.model.spec import Limits
from greenroom.wire import messages as m
from greenroom.worker.cgroups import ROOT, Cgroup, Cgroups, Layout, LeftGroups, read_layout
from greenroom.worker.oom import Kills
from greenroom.worker.processes import identify, is_dying, number_inside
from greenroom.worker.watch import FileWatch
from tests.conftest import Need, wait_for
from tests.worker.peer import Peer, program

OOM = "out of memory: limit 32 MiB"


@pytest.fixture
def group() -> Iterator[Cgroup]:
    """A real one, where 32 MiB are to be had."""
    Need.runtime("crun")
    layout = read_layout(Path("/proc/self/mountinfo").read_text())
    name = f"test-{os.getpid()}-oom"
    made = Cgroups(layout, name, 64).group("ta-1")
    made.acquire()
    made.limit(Limits(memory_limit=32))
    yield made
    LeftGroups(layout, name).remove()


def start_in(group: Cgroup, *command: str) -> subprocess.Popen:
    joins = "; ".join(f"echo 0 > {path}" for path in group.joins())
    process = subprocess.Popen(["/bin/sh", "-c", f'{joins}; exec "$@"', "sh", *command])
    wait_for(lambda: process.poll() is not None or process.pid in group.processes())
    return process


def run_out_of_memory(group: Cgroup) -> None:
    assert start_in(group, sys.executable, "-S", "-c", "bytearray(256 << 20)").wait(30) == -signal.SIGKILL


def test_what_the_agent_outlived_explains_no_later_end(group: Cgroup) -> None:
    async def check() -> None:
        agent = start_in(group, "sleep", "1000")
        kills = Kills(group, lambda: agent.pid, None)
        run_out_of_memory(group)
        assert group.out_of_memory() == OOM
        kills.look()
        assert (kills.outlived, group.out_of_memory(kills.outlived)) == (1, "")
        run_out_of_memory(group)
        agent.kill()
        agent.wait(10)
        kills.look()
        assert (kills.outlived, group.out_of_memory(kills.outlived)) == (1, OOM)

    asyncio.run(check())


def test_it_is_looked_at_when_memory_ran_out(group: Cgroup) -> None:
    async def check() -> None:
        agent = start_in(group, "sleep", "1000")
        kills = Kills(group, lambda: agent.pid, None)
        before = os.listdir("/proc/self/fd")
        kills.watch()
        await asyncio.to_thread(run_out_of_memory, group)
        async with asyncio.timeout(30):
            while kills.outlived != 1:
                await asyncio.sleep(0.01)
        kills.close()
        await asyncio.sleep(0)
        assert os.listdir("/proc/self/fd") == before
        agent.kill()
        agent.wait(10)

    asyncio.run(check())


def test_version_2_tells_by_its_file(tmp_path: Path) -> None:
    """On a directory that has the kernel's names: this machine need not have version 2."""
    layout = Layout(2, dict.fromkeys(("cpu", "memory", "pids"), str(tmp_path)), [str(tmp_path)])
    own = tmp_path / ROOT / "a-run" / "ta-1"
    own.mkdir(parents=True)
    (own / "memory.events").write_text("oom 0\noom_kill 0\n")
    (own / "memory.max").write_text(str(32 << 20))
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")

    async def check() -> None:
        files = FileWatch(asyncio.get_running_loop())
        group = Cgroup(layout, f"{ROOT}/a-run/ta-1", 9)
        kills = Kills(group, os.getpid, files)
        kills.watch()
        kills.look()
        assert kills.outlived == 0
        (own / "memory.events").write_text("oom 2\noom_kill 2\n")
        assert group.out_of_memory(kills.outlived) == OOM
        async with asyncio.timeout(30):
            while kills.outlived != 2:
                await asyncio.sleep(0.01)
        assert group.out_of_memory(kills.outlived) == ""
        (own / "memory.max").write_text("max\n")
        assert group.out_of_memory() == "out of memory: the machine has no more"
        kills.close()
        await asyncio.sleep(0)
        files.close()

    asyncio.run(check())


def test_a_process_that_must_end_is_dying() -> None:
    assert not is_dying(os.getpid())
    assert number_inside(os.getpid()) == os.getpid()
    # Its name may be anything.
    script = "printf '\\377' > /proc/$$/comm; echo named; read line"
    with subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"named\n"
        assert not is_dying(process.pid)
        assert identify(process.pid).pid == process.pid
        process.kill()
        wait_for(lambda: is_dying(process.pid))
        process.wait(10)
        assert is_dying(process.pid)
        assert number_inside(process.pid) is None


CHILD = """
child = subprocess.run([sys.executable, "-S", "-c", "bytearray(512 << 20)"])
print("child", child.returncode)
"""


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        # Long after, as a person counts.
        ("time.sleep(1)\nos.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9 (SIGKILL)"),
        ("time.sleep(1)\nbytearray(512 << 20)", "out of memory: limit 64 MiB"),
        ("bytearray(512 << 20)", "out of memory: limit 64 MiB"),
    ],
)
def test_a_container_outlives_its_child(contained: Peer, end: str, reason: str) -> None:
    contained.start("ta-1", program(f"{CHILD}\n{end}"), limits=Limits(memory_limit=64))
    contained.agent()
    assert contained.ended() == m.ContainerEnded("ta-1", reason, True)
    assert contained.logs["ta-1"] == b"child -9\n"


def test_a_new_worker_knows_what_was_outlived(contained: Peer) -> None:
    """Its limit is known too."""
    contained.start("ta-1", program(CHILD, "bytearray(512 << 20)"), limits=Limits(memory_limit=64))
    agent = contained.entered()
    contained.log_until("ta-1", b"child -9\n")
    contained.kill_worker()
    contained.start_worker()
    contained.worker.send(m.Adopt([["ta-1", 0]]))
    agent.stop()
    assert contained.ended() == m.ContainerEnded("ta-1", "out of memory: limit 64 MiB", True)
