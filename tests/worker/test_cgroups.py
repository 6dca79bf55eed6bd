"""Control groups: what is read of a machine, what is written for limits, and real ones where there are some."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from greenroom.model.spec import Limits
from greenroom.worker.cgroups import (
    ROOT,
    Cgroup,
    Cgroups,
    Layout,
    LeftGroups,
    Unavailable,
    limit_files,
    read_layout,
    runs_with_groups,
)
from greenroom.worker.mounts import mount_points
from greenroom.worker.watch import FileWatch
from tests.conftest import Need, wait_for
from tests.worker.peer import alive

V1 = """
30 24 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 24 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
""".strip()
UNIFIED = "34 24 0:30 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw"
V2 = "34 24 0:30 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1_DIRECTORIES = {
    "cpu": "/sys/fs/cgroup/cpu,cpuacct",
    "memory": "/sys/fs/cgroup/memory",
    "pids": "/sys/fs/cgroup/pids",
}


@pytest.mark.parametrize(
    ("mountinfo", "version", "directories", "everywhere"),
    [
        (V1, 1, V1_DIRECTORIES, ["/sys/fs/cgroup/systemd", *V1_DIRECTORIES.values()]),
        (f"{V1}\n{UNIFIED}", 1, V1_DIRECTORIES, ["/sys/fs/cgroup/systemd", *V1_DIRECTORIES.values()]),
        (V2, 2, dict.fromkeys(V1_DIRECTORIES, "/sys/fs/cgroup"), ["/sys/fs/cgroup"]),
    ],
    ids=["v1", "hybrid", "v2"],
)
def test_the_layout_of_a_machine(mountinfo, version, directories, everywhere):
    assert read_layout(mountinfo) == Layout(version, directories, everywhere)


@pytest.mark.parametrize(("mountinfo", "missing"), [("", "cpu, memory, pids"), (V1.rpartition("\n")[0], "pids")])
def test_a_machine_without(mountinfo, missing):
    with pytest.raises(Unavailable, match=f"no cgroup controller for {missing} is mounted"):
        read_layout(mountinfo)


@pytest.mark.parametrize(
    ("limits", "v1", "v2"),
    [
        (Limits(), {"pids.max": "9"}, {"pids.max": "9"}),
        (Limits(cpu=2), {"pids.max": "9", "cpu.shares": "2048"}, {"pids.max": "9", "cpu.weight": "79"}),
        (
            Limits(cpu=0.5, cpu_limit=1.5),
            {"pids.max": "9", "cpu.shares": "512", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"},
            {"pids.max": "9", "cpu.weight": "20", "cpu.max": "150000 100000"},
        ),
        (
            Limits(memory=1, memory_limit=2),
            {
                "pids.max": "9",
                "memory.soft_limit_in_bytes": "1048576",
                "memory.limit_in_bytes": "2097152",
                "memory.memsw.limit_in_bytes?": "2097152",
            },
            {"pids.max": "9", "memory.low": "1048576", "memory.max": "2097152", "memory.swap.max?": "0"},
        ),
    ],
)
def test_what_is_written_for_limits(limits, v1, v2):
    for version, expected in ((1, v1), (2, v2)):
        files = limit_files(version, limits, 9)
        assert {name: value for one in files.values() for name, value in one.items()} == expected


def test_version_2_passes_controllers_on_and_writes_limits_beside_each_other(tmp_path):
    """On a directory that has the kernel's names: this machine need not have version 2."""
    (tmp_path / "cgroup.subtree_control").write_text("cpu")
    for directory in (tmp_path / ROOT, tmp_path / ROOT / "a-run"):
        directory.mkdir()
        (directory / "cgroup.subtree_control").write_text("")
    groups = Cgroups(Layout(2, dict.fromkeys(("cpu", "memory", "pids"), str(tmp_path)), [str(tmp_path)]), "a-run", 9)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +pids"
    assert (tmp_path / ROOT / "a-run" / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    group = groups.group("ta-1")
    group.acquire()
    group.limit(Limits(memory_limit=2))
    own = tmp_path / ROOT / "a-run" / "ta-1"
    assert {path.name: path.read_text() for path in own.iterdir()} == {"memory.max": "2097152", "pids.max": "9"}
    assert group.joins() == [str(own / "cgroup.procs")]
    (own / "memory.events").write_text("low 0\noom 1\noom_kill 2\n")
    assert group.out_of_memory() == "out of memory: limit 2 MiB"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / ROOT).write_text("in the way")
    with pytest.raises(Unavailable, match=f"{ROOT}"):
        Cgroups(Layout(1, dict.fromkeys(("cpu", "memory", "pids"), str(tmp_path)), [str(tmp_path)]), "a-run", 9)


@pytest.fixture
def layout():
    Need.runtime("crun")
    return read_layout(Path("/proc/self/mountinfo").read_text())


@pytest.fixture
def groups(layout):
    made = Cgroups(layout, f"test-{os.getpid()}", 9)
    yield made
    LeftGroups(layout, f"test-{os.getpid()}").remove()


def test_what_joined_is_found_and_ended(layout, groups):
    group = groups.group("ta-1")
    group.acquire()
    script = "; ".join(f"echo 0 > {path}" for path in group.joins())
    with subprocess.Popen(["sh", "-c", f"{script}; sleep 1000 & exec sleep 1000"]) as process:
        wait_for(lambda: len(group.processes()) == 2)
        assert process.pid in group.processes()
        assert f"test-{os.getpid()}" in runs_with_groups(layout)
        assert len(LeftGroups(layout, f"test-{os.getpid()}").processes()) == 2
        group.release()
        assert process.wait(10) == -9
    assert group.processes() == []
    assert not any(Path(path).exists() for path in group.joins())
    groups.group("ta-2").acquire()
    groups.close()
    assert f"test-{os.getpid()}" not in runs_with_groups(layout)


def test_two_hundred_leftovers_go_and_no_other_programs(layout):
    name, other = f"test-{os.getpid()}-left", f"test-{os.getpid()}-other"
    left, kept = Cgroups(layout, name, 9), Cgroups(layout, other, 9)
    for number in range(200):
        left.group(f"ta-{number}").acquire()
    kept.group("ta-1").acquire()
    LeftGroups(layout, name).remove()
    assert name not in runs_with_groups(layout)
    assert other in runs_with_groups(layout)
    LeftGroups(layout, other).remove()


def test_killing_is_one_write_where_the_kernel_can(tmp_path):
    own = tmp_path / ROOT / "a-run" / "ta-1"
    own.mkdir(parents=True)
    group = Cgroup(
        Layout(2, dict.fromkeys(("cpu", "memory", "pids"), str(tmp_path)), [str(tmp_path)]), f"{ROOT}/a-run/ta-1", 9
    )
    with subprocess.Popen(["sleep", "1000"]) as process:
        (own / "cgroup.procs").write_text(f"{process.pid}\n")
        (own / "cgroup.kill").write_text("")
        group.kill()
        assert (own / "cgroup.kill").read_text() == "1"
        assert process.poll() is None
        (own / "cgroup.kill").unlink()  # as before Linux 5.14
        group.kill()
        assert process.wait(10) == -9


@pytest.fixture
def unified():
    """A group of this test's own below a real version 2, whatever controllers that has."""
    if os.geteuid() != 0:
        pytest.skip("control groups need root")
    points = mount_points(Path("/proc/self/mountinfo").read_text())
    mounted = next((where for where, kind, _ in points if kind == "cgroup2"), None)
    if mounted is None:
        pytest.skip("no cgroup2 is mounted")
    base = Path(mounted, f"greenroom-test-{os.getpid()}")
    try:
        base.mkdir()
    except OSError as error:
        pytest.skip(f"{base}: {error.strerror}")
    yield base
    LeftGroups(Layout(2, dict.fromkeys(("cpu", "memory", "pids"), str(base)), [str(base)]), "a-run").remove()
    base.rmdir()


def test_a_real_version_2(unified):
    """Making, joining, telling, killing at once, removing; its limits need controllers, and are tested above."""
    layout = Layout(2, dict.fromkeys(("cpu", "memory", "pids"), str(unified)), [str(unified)])
    own = unified / ROOT / "a-run" / "ta-1"
    own.parent.mkdir(parents=True)
    group = Cgroup(layout, f"{ROOT}/a-run/ta-1", 9)
    group.acquire()
    events = own / "cgroup.events"
    assert "populated 0" in events.read_text()

    async def check() -> None:
        files = FileWatch(asyncio.get_running_loop())
        told = asyncio.Event()
        end = files.add(events, told.set)
        script = f"echo 0 > {group.joins()[0]}; for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait"
        with subprocess.Popen(["sh", "-c", script]) as process:
            await asyncio.wait_for(told.wait(), 30)
            assert "populated 1" in events.read_text()
            await asyncio.to_thread(wait_for, lambda: len(group.processes()) == 9)
            assert process.pid in group.processes()
            assert sorted(LeftGroups(layout, "a-run").processes()) == sorted(group.processes())
            assert runs_with_groups(layout) == {"a-run"}
            everything = group.processes()
            if (own / "cgroup.kill").exists():
                (own / "cgroup.kill").write_text("1")
                await asyncio.to_thread(wait_for, lambda: "populated 0" in events.read_text())
                assert process.wait(10) == -9
            end()
            files.close()
            group.release()
            assert process.wait(10) == -9
        assert not own.exists()
        assert not any(alive(pid) for pid in everything)

    asyncio.run(check())
    Cgroup(layout, f"{ROOT}/a-run/ta-2", 9).acquire()
    LeftGroups(layout, "a-run").remove()
    assert not (unified / ROOT).exists()


def test_a_real_version_2_that_lacks_controllers_is_one_line(unified):
    lacks = {"cpu", "memory", "pids"}.difference((unified / "cgroup.controllers").read_text().split())
    if not lacks:
        pytest.skip("this one has them all")
    layout = Layout(2, dict.fromkeys(("cpu", "memory", "pids"), str(unified)), [str(unified)])
    with pytest.raises(Unavailable, match=f"{unified} has no cgroup controller for"):
        Cgroups(layout, "a-run", 9)
