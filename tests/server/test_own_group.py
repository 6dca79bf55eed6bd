"""What control groups leave a server, from directories laid out as kernels do."""

import math
import os

import pytest

from greenroom.model.spec import FunctionSpec
from greenroom.server.machine import Machine, this_machine, within
from greenroom.server.own_group import OwnLimits, read_own_limits

MIB = 1024**2
V1_NO_LIMIT = "9223372036854771712\n"


@pytest.fixture
def lay(tmp_path):
    """Write ``{file: text}`` below a directory for hierarchies; its path."""

    def write(files):
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    return write


def mounted(where, kind="cgroup2", options="rw", root="/"):
    return f"30 23 0:26 {root} {where} rw,nosuid - {kind} cgroup {options}\n"


V2 = [
    ({}, "/", OwnLimits()),
    ({"memory.max": "max\n", "cpu.max": "max 100000\n"}, "/", OwnLimits()),
    ({"memory.max": f"{512 * MIB}\n", "cpu.max": "150000 100000\n"}, "/", OwnLimits(1.5, 512 * MIB)),
    ({"a/b/memory.max": "max\n", "a/memory.max": f"{64 * MIB}\n", "a/b/cpu.max": "50000 100000"}, "/a/b",
     OwnLimits(0.5, 64 * MIB)),
    ({"a/memory.max": f"{512 * MIB}\n", "a/b/memory.max": f"{64 * MIB}\n"}, "/a/b", OwnLimits(memory=64 * MIB)),
    ({"other/memory.max": f"{64 * MIB}\n"}, "/a/b", OwnLimits()),
    ({"memory.max": f"{64 * MIB}\n"}, "/../../elsewhere", OwnLimits(memory=64 * MIB)),
]  # fmt: skip


@pytest.mark.parametrize(("files", "own", "limits"), V2)
def test_version_2(lay, files, own, limits):
    assert read_own_limits(mounted(lay(files)), f"0::{own}\n") == limits


@pytest.mark.parametrize("quota", ["-1", "200000"])
def test_version_1(lay, quota):
    top = lay({
        "memory/memory.limit_in_bytes": V1_NO_LIMIT,
        "memory/job/memory.limit_in_bytes": f"{300 * MIB}\n",
        "memory/job/own/memory.limit_in_bytes": V1_NO_LIMIT,
        "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/own/cpu.cfs_quota_us": quota,
        "cpu,cpuacct/own/cpu.cfs_period_us": "50000\n",
    })  # fmt: skip
    mounts = mounted(top / "memory", "cgroup", "rw,memory") + mounted(top / "cpu,cpuacct", "cgroup", "rw,cpu,cpuacct")
    limits = read_own_limits(mounts, "4:memory:/job/own\n2:cpu,cpuacct:/own\n1:name=systemd:/x\n")
    assert limits == OwnLimits(4.0 if quota != "-1" else math.inf, 300 * MIB)


def test_version_1_with_an_empty_version_2_beside_it(lay):
    top = lay({"memory/a/memory.limit_in_bytes": f"{100 * MIB}\n", "unified/b/cgroup.procs": ""})
    mounts = mounted(top / "memory", "cgroup", "rw,memory") + mounted(top / "unified")
    assert read_own_limits(mounts, "4:memory:/a\n0::/b\n") == OwnLimits(memory=100 * MIB)


def test_version_1_with_a_version_2_that_has_the_memory(lay):
    top = lay({"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "100000", "unified/b/memory.max": "77"})
    mounts = mounted(top / "cpu", "cgroup", "rw,cpu") + mounted(top / "unified")
    assert read_own_limits(mounts, "2:cpu:/a\n0::/b\n") == OwnLimits(1.0, 77)


def test_a_container_that_sees_its_own_group_alone(lay):
    """With a namespace of its own all paths are ``/``; without one, the mount's root is the group that it is in."""
    top = lay({"memory.limit_in_bytes": f"{100 * MIB}\n", "inner/memory.limit_in_bytes": f"{50 * MIB}\n"})
    assert read_own_limits(mounted(top, "cgroup", "rw,memory"), "4:memory:/\n").memory == 100 * MIB
    bound = mounted(top, "cgroup", "rw,memory", root="/docker/abc")
    assert read_own_limits(bound, "4:memory:/docker/abc\n").memory == 100 * MIB
    assert read_own_limits(bound, "4:memory:/docker/abc/inner\n").memory == 50 * MIB
    assert read_own_limits(bound, "4:memory:/docker/abcd\n").memory == 100 * MIB, "seen from outside: the top"


def test_paths_with_spaces(lay):
    top = lay({"with space/memory.max": "99\n"})
    escaped = str(top / "with space").replace(" ", "\\040")
    assert read_own_limits(mounted(escaped), "0::/\n").memory == 99


def test_what_cannot_be_read_is_no_limit():
    assert read_own_limits(mounted("/nowhere"), "0::/a\n") == OwnLimits()
    assert read_own_limits("", "0::/\n") == OwnLimits()


@pytest.mark.parametrize(
    ("limits", "cores", "memory", "text"),
    [
        (OwnLimits(), 4, 8192, "this machine has 8192 MiB"),
        (OwnLimits(16.0, 1e12), 4, 8192, "this machine has 8192 MiB"),
        (
            OwnLimits(1.5, 512 * MIB),
            1.5,
            512,
            "this machine has 512 MiB, which is the limit of this server's control group",
        ),
    ],
)
def test_the_smaller_of_both(limits, cores, memory, text):
    machine = within(Machine(4, 8192, 0), limits)
    assert (machine.cores, machine.memory) == (cores, memory)
    spec = FunctionSpec("fu", "ap", "f", False, "m", "f", [], memory=10_000, cpu=5)
    assert machine.refuse(spec) == f"InvalidError: f asks for 10000 MiB of memory; {text}"
    assert machine.mention(spec) == f"f asks for 5 CPUs; this machine has {cores:g}, so it runs with those"


def test_this_machine():
    machine = this_machine()
    assert 0 < machine.cores <= len(os.sched_getaffinity(0))
    assert machine.memory > 0
