"""What this process's control groups let it have: less than the machine, in a container or under a service's limits.

Version 1, version 2, and version 1 with version 2 beside it: whichever holds a controller has the files of it, and where
none are there is no limit. A group's limit binds what is below it, so the least of all that can be seen counts.
"""

import math
import os
from collections.abc import Iterator
from typing import NamedTuple


class OwnLimits(NamedTuple):
    """Infinite where there is none."""

    cores: float = math.inf
    memory: float = math.inf
    """Bytes."""


def read_own_limits(mountinfo: str, membership: str) -> OwnLimits:
    """From ``/proc/self/mountinfo``, ``/proc/self/cgroup``, and the files of the groups that they name."""
    cores, memory = math.inf, math.inf
    for group in _own_groups(mountinfo, membership):
        memory = min(memory, _number(_read(group, "memory.max")), _number(_read(group, "memory.limit_in_bytes")))
        quota, _, period = _read(group, "cpu.max").partition(" ")
        cores = min(cores, _cores(quota, period))
        cores = min(cores, _cores(_read(group, "cpu.cfs_quota_us"), _read(group, "cpu.cfs_period_us")))
    return OwnLimits(cores, memory)


def _own_groups(mountinfo: str, membership: str) -> Iterator[str]:
    """Directories of this process's groups and of those above, in each hierarchy, as far as they are shown here."""
    own: dict[str, str] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            own[controller] = path  # version 2 has ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, where = (_unescaped(text) for text in before.split(" ")[3:5])
        if kind not in ("cgroup", "cgroup2"):
            continue
        names = [""] if kind == "cgroup2" else options.split(",")
        for path in [own[name] for name in names if name in own][:1]:
            yield from _upwards(where, _below(root, path))


def _below(root: str, path: str) -> str:
    """A group's path within what is mounted, whose top is the group ``root``. Where the group is not in it, the top: of
    a namespace of its own a process may see no more than that."""
    names = os.path.relpath(path, root) if ".." not in root + path else "."
    return "" if names == "." or names.startswith("..") else names


def _upwards(top: str, below: str) -> Iterator[str]:
    while below:
        yield os.path.join(top, below)
        below = os.path.dirname(below)
    yield top


def _read(group: str, name: str) -> str:
    try:
        with open(os.path.join(group, name)) as file:
            return file.read().strip()
    except OSError:
        return ""


def _number(text: str) -> float:
    return float(text) if text.isdigit() else math.inf


def _cores(quota: str, period: str) -> float:
    """``max`` and -1 are no quota."""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else math.inf


def _unescaped(text: str) -> str:
    return text.encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
