"""Control groups: a container's share of the machine, its limits, and every process that it ever started.

Version 1, version 2, and version 1 with an empty version 2 beside it ("hybrid"). A container's group is
``greenroom/<run>/<name>`` in each hierarchy that is used; processes join it before the runtime is executed, and are
killed by it when everything else fails.
"""

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from greenroom.model.spec import Limits
from greenroom.worker.group_owner import is_nobodys, note_owner
from greenroom.worker.mounts import mount_points
from greenroom.worker.processes import CANNOT_LOOK, kill

ROOT = "greenroom"
_CONTROLLERS = ("cpu", "memory", "pids")
_NO_LIMIT = 1 << 62
"""Bytes of memory that version 1 says where there is no limit, or more."""
_PERIOD = 100_000
"""Microseconds over which a limit of cores is kept."""
_GONE_WITHIN = 5.0
"""Seconds in which killed processes must have left their group."""


class Layout(NamedTuple):
    """Where a machine has its controllers."""

    version: int
    directories: dict[str, str]
    """By controller; with version 2 all the same."""
    everywhere: list[str]
    """Every hierarchy that is mounted: some runtimes make groups in each."""

    @property
    def hierarchies(self) -> list[str]:
        """Each directory once."""
        return list(dict.fromkeys(self.directories.values()))


class Unavailable(Exception):
    """No groups can be made here; the text says why."""


def read_layout(mountinfo: str) -> Layout:
    """From ``/proc/self/mountinfo``.

    Raises:
        Unavailable: a controller that is needed is mounted nowhere.
    """
    found: dict[str, str] = {}
    everywhere: list[str] = []
    unified = ""
    for where, kind, options in mount_points(mountinfo):
        if kind == "cgroup2":
            unified = unified or where
        elif kind == "cgroup":
            everywhere.append(where)
            for name in _CONTROLLERS:
                if name in options.split(","):
                    found.setdefault(name, where)
    if len(found) == len(_CONTROLLERS):
        return Layout(1, {name: found[name] for name in _CONTROLLERS}, everywhere)
    if unified and len(found) < len(_CONTROLLERS) and set(_CONTROLLERS).issubset(_controllers(Path(unified))):
        return Layout(2, dict.fromkeys(_CONTROLLERS, unified), [unified])
    missing = ", ".join(name for name in _CONTROLLERS if name not in found)
    raise Unavailable(f"no cgroup controller for {missing} is mounted")


def _controllers(directory: Path) -> Sequence[str]:
    """What a group of version 2 has; where it can't be asked, all."""
    try:
        return (directory / "cgroup.controllers").read_text().split()
    except OSError:
        return _CONTROLLERS


def limit_files(version: int, limits: Limits, pids: int) -> dict[str, dict[str, str]]:
    """What to write for these limits: value by file by controller."""
    files: dict[str, dict[str, str]] = {"cpu": {}, "memory": {}, "pids": {"pids.max": str(pids)}}
    cpu, memory = files["cpu"], files["memory"]
    shares = min(262_144, max(2, round(1024 * limits.cpu)))
    quota = max(1000, round(_PERIOD * limits.cpu_limit))
    request, limit = limits.memory * 1024**2, limits.memory_limit * 1024**2
    if version == 1:
        if limits.cpu:
            cpu["cpu.shares"] = str(shares)
        if limits.cpu_limit:
            cpu |= {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": str(quota)}
        if limit:
            memory |= {"memory.limit_in_bytes": str(limit), "memory.memsw.limit_in_bytes?": str(limit)}
        if request:
            memory["memory.soft_limit_in_bytes"] = str(request)
    else:
        if limits.cpu:
            cpu["cpu.weight"] = str(1 + ((shares - 2) * 9999) // 262_142)
        if limits.cpu_limit:
            cpu["cpu.max"] = f"{quota} {_PERIOD}"
        if limit:
            memory |= {"memory.max": str(limit), "memory.swap.max?": "0"}
        if request:
            memory["memory.low"] = str(request)
    return files


class Cgroups:
    """The groups of one run's containers.

    Args:
        name: of the server's run, different from every other run's on this machine.
        home: the state directory, noted on them; None: nobody else is to know.

    Raises:
        Unavailable: they can't be made here.
    """

    def __init__(self, layout: Layout, name: str, pids: int, home: Path | None = None) -> None:
        self.layout = layout
        self._name = name
        self._home = home
        self._pids = pids
        self.keeps_limits = ""
        try:
            for hierarchy in layout.hierarchies:
                self._make(Path(hierarchy))
        except OSError as error:
            raise Unavailable(f"{error.filename or ROOT}: {error.strerror}") from None

    def _make(self, hierarchy: Path) -> None:
        for _ in range(10):  # another run's end may remove what was empty
            with contextlib.suppress(FileNotFoundError):
                parent = hierarchy
                for directory in (hierarchy / ROOT, hierarchy / ROOT / self._name):
                    self._pass_on_controllers(parent)
                    directory.mkdir(exist_ok=True)
                    parent = directory
                self._pass_on_controllers(parent)
                if self._home is not None:
                    note_owner(parent, self._home)
                return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(hierarchy / ROOT))

    def _pass_on_controllers(self, directory: Path) -> None:
        """Version 2: what lies below a group has the controllers that the group passes on."""
        if self.layout.version == 1:
            return
        # The kernel would say that there is no such file, as it does of a group that has gone.
        if missing := [name for name in _CONTROLLERS if name not in _controllers(directory)]:
            raise Unavailable(f"{directory} has no cgroup controller for {', '.join(missing)}")
        there = (directory / "cgroup.subtree_control").read_text().split()
        wanted = [name for name in _CONTROLLERS if name not in there]
        if wanted:
            (directory / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))

    def group(self, name: str) -> "Cgroup":
        """One of this run's."""
        return Cgroup(self.layout, f"{ROOT}/{self._name}/{name}", self._pids)

    def close(self) -> None:
        """The run is over: remove them all, those of a worker before this one too, but for any that is in use."""
        LeftGroups(self.layout, self._name).remove(kill=False)


class Cgroup:
    """One container's group, in every hierarchy that is used."""

    def __init__(self, layout: Layout, path: str, pids: int) -> None:
        self.path = path
        self._layout = layout
        self._pids = pids

    @property
    def name(self) -> str:
        """Within its run."""
        return self.path.rpartition("/")[2]

    def acquire(self) -> None:
        """Make it, without limits; raises OSError, and then it isn't there."""
        try:
            for hierarchy in self._layout.hierarchies:
                Path(hierarchy, self.path).mkdir()
        except BaseException:
            self.release()
            raise

    def limit(self, limits: Limits) -> None:
        """Keep what is in it within these; raises OSError."""
        for controller, files in limit_files(self._layout.version, limits, self._pids).items():
            for name, value in files.items():
                self._write(Path(self._layout.directories[controller], self.path), name, value)

    def _write(self, directory: Path, name: str, value: str) -> None:
        """A file marked ``?`` is one that kernels without swap accounting lack."""
        file = directory / name.removesuffix("?")
        if name.endswith("?") and not file.exists():
            return
        file.write_text(value)

    def joins(self) -> list[str]:
        """The files that a process writes ``0`` to in order to be in it."""
        return [f"{hierarchy}/{self.path}/cgroup.procs" for hierarchy in self._layout.hierarchies]

    def processes(self) -> list[int]:
        """Every process in it, zombies apart; raises OSError where that can't be seen."""
        try:
            words = Path(self._layout.directories["pids"], self.path, "cgroup.procs").read_text().split()
        except OSError as error:
            if error.errno in CANNOT_LOOK:
                raise
            return []
        return [int(word) for word in words if word != "0"]

    @property
    def _memory(self) -> Path:
        return Path(self._layout.directories["memory"], self.path)

    @property
    def kills_file(self) -> Path:
        """Where the kernel counts what it has killed; with version 2, writing to it is how it tells."""
        return self._memory / ("memory.oom_control" if self._layout.version == 1 else "memory.events")

    def kills(self) -> int:
        """Processes of it that the kernel has killed for want of memory, since it was made: this never falls."""
        try:
            counts = dict(line.split() for line in self.kills_file.read_text().splitlines())
        except FileNotFoundError:
            return 0
        return int(counts.get("oom_kill", "0"))

    def kill_events(self) -> int:
        """Version 1: an eventfd, which the caller closes, that counts when memory runs out; raises OSError."""
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            with self.kills_file.open() as file:
                (self._memory / "cgroup.event_control").write_text(f"{event} {file.fileno()}")
        except OSError:
            os.close(event)
            raise
        return event

    def out_of_memory(self, outlived: int = 0) -> str:
        """``out of memory: limit 512 MiB`` when the kernel has killed a process of it for that; else ``""``.

        ``outlived``: kills that explain nothing any more.
        """
        try:
            if self.kills() <= outlived:
                return ""
            limit = (
                self._memory / ("memory.limit_in_bytes" if self._layout.version == 1 else "memory.max")
            ).read_text()
        except OSError:
            return ""
        if not limit.strip().isdigit() or int(limit) >= _NO_LIMIT:
            return "out of memory: the machine has no more"
        return f"out of memory: limit {int(limit) >> 20} MiB"

    def release(self) -> None:
        """Kill what is in it, and remove it. Blocks until both are done."""
        limit = time.monotonic() + _GONE_WITHIN
        for hierarchy in self._layout.everywhere:
            while not _remove(Path(hierarchy, self.path)) and time.monotonic() < limit:
                self.kill()
                time.sleep(0.001)

    def kill(self) -> None:
        """SIGKILL everything in it: at once where the kernel does that (version 2 from Linux 5.14 on), else one by one."""
        whole = Path(self._layout.directories["pids"], self.path, "cgroup.kill")
        if self._layout.version == 2 and whole.exists():
            with contextlib.suppress(OSError):  # it has gone
                whole.write_text("1")
            return
        for pid in self.processes():
            kill(pid)


class LeftGroups:
    """The groups that a run has left, which nobody looks after any more."""

    def __init__(self, layout: Layout, name: str) -> None:
        self._layout = layout
        self._name = name

    def processes(self) -> list[int]:
        """Every process in them."""
        return [pid for group in self._groups() for pid in group.processes()]

    def remove(self, *, kill: bool = True) -> None:
        """Remove them; with ``kill``, those too that have processes, which end."""
        for group in self._groups():
            if kill or not group.processes():
                group.release()
        for hierarchy in self._layout.everywhere:
            _remove(Path(hierarchy, ROOT, self._name))
            _remove(Path(hierarchy, ROOT))

    def are_nobodys(self) -> bool:
        """Whether their home has gone and no program uses them."""
        noted = [Path(hierarchy, ROOT, self._name) for hierarchy in self._layout.hierarchies]
        return any(is_nobodys(path) for path in noted) and not self.processes()

    def remove_empty(self) -> None:
        """Remove what has no processes, and end none."""
        # The noted ones last: what is left of them is still known then.
        for hierarchy in sorted(self._layout.everywhere, key=lambda path: path in self._layout.hierarchies):
            directory = Path(hierarchy, ROOT, self._name)
            for group in directory.glob("*/"):
                _remove(group)
            _remove(directory)
            _remove(Path(hierarchy, ROOT))

    def _groups(self) -> list[Cgroup]:
        names = {
            path.name
            for hierarchy in self._layout.everywhere
            for path in Path(hierarchy, ROOT, self._name).glob("*")
            if path.is_dir()
        }
        return [Cgroup(self._layout, f"{ROOT}/{self._name}/{name}", 0) for name in sorted(names)]


def runs_with_groups(layout: Layout) -> set[str]:
    """The names of the runs that have groups, whosever they are."""
    return {path.name for hierarchy in layout.everywhere for path in Path(hierarchy, ROOT).glob("*") if path.is_dir()}


def group_name(home: Path, run: Path) -> str:
    """A run's name here: its state directory's mark, then its own."""
    return f"{home_mark(home)}-{run.name}"


def home_mark(home: Path) -> str:
    """What tells one state directory's groups from another's."""
    return hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]


def _remove(directory: Path) -> bool:
    """Whether it is gone."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
