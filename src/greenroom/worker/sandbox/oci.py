"""Real containers: an OCI runtime starts each in namespaces of its own, on a root of its own, within a control group."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from greenroom.model.image import SYSTEM_PATH
from greenroom.model.settings import Settings
from greenroom.worker import mounts
from greenroom.worker.cgroups import Cgroup, Cgroups, Unavailable, group_name, read_layout
from greenroom.worker.environment import contained_environment, own_root_environment
from greenroom.worker.guard import guarded, own_error
from greenroom.worker.host_image import HOME, look
from greenroom.worker.id_range import id_range
from greenroom.worker.oom import Kills
from greenroom.worker.processes import CONTAINER, is_first_of_its_own, marked_processes
from greenroom.worker.rootfs import SOCKET, Ground, RootFilesystem
from greenroom.worker.sandbox.base import Descriptors, Launch, Stack, asked_environment
from greenroom.worker.sandbox.launcher import FIRST_FD, Launcher
from greenroom.worker.sandbox.oci_config import CAPABILITIES, Contained, config
from greenroom.worker.sandbox.oci_images import PACKAGES, OciImages
from greenroom.worker.sandbox.runtimes import Runtime
from greenroom.worker.sandbox.seccomp import filters
from greenroom.worker.sandbox.seccomp_bpf import cached_program
from greenroom.worker.scratch import noted_agent
from greenroom.worker.toolbox import Toolbox
from greenroom.worker.watch import FileWatch

BASE = Path("/run/greenroom")
"""An empty directory on the host; within the worker's mount namespace, a file system of its own."""
_JOIN = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo 0 > "$1" || exit 125; shift; n=$((n-1)); done; exec "$@"'
"""Joins the groups, then becomes what a person wants to run in the container."""
BEGIN, NOTES = "/run/greenroom.begin", "/run/greenroom.notes"
"""Where a container that gets no descriptors finds what it is to be, and notes how it ended."""
GROUP = "group"
"""File in a container's directory with the name of its control group."""
_BECOME_PARENT = 36  # PR_SET_CHILD_SUBREAPER


class OciSandboxes(OciImages):
    """See :class:`greenroom.worker.sandbox.base.Sandboxes`. To be made before this process has threads.

    Raises:
        OSError: this machine doesn't let us.
    """

    lacks = ""

    def __init__(self, runtime: Runtime, home: Path, run: Path, settings: Settings) -> None:
        self.runtime = runtime
        self.cache = home / "cache" / "packages"
        self.inline_only = not runtime.passes_descriptors
        self.run = run
        self._loop = asyncio.get_running_loop()
        os.umask(0o022)  # what containers are to see is made below; what they aren't lies behind closed directories
        _adopt_what_runtimes_leave()
        mounts.leave_mount_namespace()
        _unmount_unified_beside_v1()
        BASE.mkdir(mode=0o711, exist_ok=True)
        mounts.mount("tmpfs", str(BASE), mounts.NOSUID | mounts.NODEV, "mode=711")
        scratch, host, layers = BASE / "scratch", BASE / "host", BASE / "layers"
        for shown, where in ((run / "containers", scratch), (home / "layers", layers)):
            shown.mkdir(mode=0o700, exist_ok=True)
            where.mkdir()
            mounts.bind(str(shown), str(where), mounts.NOSUID | mounts.NODEV)
        for made in (host, BASE / "l"):
            made.mkdir()
        _try_what_every_container_needs(BASE, scratch)
        image = look(home)
        owner = id_range(home) if runtime.user_namespace else 0
        image.lay(host, owner)
        door = _open_door(run)
        shared = [path for path in settings.shared_dirs.split(":") if path]
        toolbox = Toolbox(image, BASE / "agent")
        self.ground = Ground(BASE, host, scratch, image, owner, str(door), shared, layers, toolbox)
        self.seccomp = filters(CAPABILITIES)
        program = cached_program(self.seccomp, home / "cache") if runtime.name.startswith("crun") else None
        self.seccomp_program = base64.b64encode(program).decode() if program is not None else ""
        self.starting: set[int] = set()
        """Runtimes at work."""
        self.cgroups: Cgroups | None = None
        self.keeps_limits = ""
        self.memory_events: FileWatch | None = None
        self._launcher: Launcher | None = None
        self._standing_down = False
        try:
            layout = read_layout(Path("/proc/self/mountinfo").read_text())
            self.cgroups = Cgroups(layout, group_name(home, run), settings.pids_limit, home)
            if layout.version == 2:
                self.memory_events = FileWatch(self._loop)
        except Unavailable as why:
            self.keeps_limits = str(why)
        self._prepare_launcher()

    def take_launcher(self) -> Launcher:
        """The shell that becomes the next container's runtime; raises OSError."""
        ready, self._launcher = self._launcher, None
        if ready is not None and not ready.alive():
            self.drop(ready)
            ready = None
        taken = ready or self._new_launcher()
        self._loop.call_soon(self._prepare_launcher)
        return taken

    def drop(self, launcher: Launcher) -> None:
        """Nothing is to be left of it."""
        launcher.drop()
        self.starting.discard(launcher.pid)
        with contextlib.suppress(ChildProcessError):  # it was waited for when it had become the runtime
            os.waitpid(launcher.pid, 0)

    def _new_launcher(self) -> Launcher:
        launcher = Launcher(self.cgroups, BASE, join=not self.runtime.own_cgroup)
        self.starting.add(launcher.pid)
        return launcher

    def _prepare_launcher(self) -> None:
        """Have the next one ready. Its joining is none of this process's time."""
        if self._launcher is None and self.cgroups is not None and not self._standing_down:
            with contextlib.suppress(OSError):  # the one who needs it is told why it can't be
                self._launcher = self._new_launcher()

    def sandbox(self, launch: Launch) -> "OciSandbox":
        """For a new container."""
        return OciSandbox(self, launch.container_id, launch.directory, launch)

    def left(self, container_id: str, directory: Path) -> "OciSandbox":
        """Of one that is there already."""
        return OciSandbox(self, container_id, directory, None)

    def code(self, code: Path) -> str:
        """Its home."""
        return HOME

    def socket(self, path: str) -> str:
        """The one thing of the server's that it sees."""
        return SOCKET

    def stand_down(self) -> None:
        """No more containers are started: nothing of this worker's is to be in a control group that another one clears."""
        self._standing_down = True
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            self.drop(launcher)

    def close(self, *, handed_over: bool = False) -> None:
        """The mounts go with this process; the control groups too, but for those that another worker has now."""
        if self._launcher is not None:
            self.drop(self._launcher)
        if self.memory_events is not None:
            self.memory_events.close()
        if self.cgroups is not None and not handed_over:
            self.cgroups.close()


class OciSandbox:
    """See :class:`greenroom.worker.sandbox.base.Sandbox`."""

    def __init__(self, place: OciSandboxes, container_id: str, directory: Path, launch: Launch | None) -> None:
        self._place = place
        self._container_id = container_id
        self._directory = directory
        self._launch = launch
        code, stack, making = (
            (launch.code, launch.stack, launch.making) if launch is not None else (None, Stack(), None)
        )
        self._root = RootFilesystem(place.ground, container_id, code, stack, making)
        self._launcher: Launcher | None = None
        self._cgroup: Cgroup | None = None
        self._kills: Kills | None = None
        self._failed: Callable[[str], None] = lambda reason: None

    def acquire(self) -> None:
        """A root file system, then a control group with a shell in it that becomes the runtime."""
        assert self._launch is not None
        self._root.acquire()
        try:
            self._launcher = self._place.take_launcher()
            self._cgroup = self._launcher.group
            if self._cgroup is not None:
                (self._directory / GROUP).write_text(self._cgroup.name)
                self._cgroup.limit(self._launch.limits)
        except BaseException:
            self.release()
            raise

    def adopt(self) -> None:
        """The mounts went with the worker before; the group's name was noted."""
        cgroups = self._place.cgroups
        with contextlib.suppress(OSError):  # it never had one
            if cgroups is not None and (name := (self._directory / GROUP).read_text()):
                self._cgroup = cgroups.group(name)
                self._watch_kills()

    def start(self, descriptors: Descriptors, started: Callable[[int], None], failed: Callable[[str], None]) -> None:
        """Have the runtime start it, and wait for the runtime alone: it leaves the container to this process."""
        place, launch, launcher = self._place, self._launch, self._launcher
        assert launch is not None and launcher is not None
        directory = self._root.directory
        passed = [str(number) for number in range(FIRST_FD, FIRST_FD + len(descriptors))]
        if not place.runtime.passes_descriptors:
            passed = self._as_files(descriptors)
        options = [
            word for name, value in zip(Descriptors._fields, passed, strict=True) for word in (f"--{name}", value)
        ]
        contained = Contained(
            args=[*place.program(launch.stack, launch.making), *options, "--backstop", str(launch.backstop)],
            environment=self._environment(launch),
            workdir=place.inside("", launch.stack.config),
            privileged=launch.making is not None and launch.making.way == "builder",
            root=str(self._root.root),
            hostname=launch.container_id,
            first_id=place.ground.owner if place.runtime.user_namespace else -1,
            block_network=launch.limits.block_network,
            cgroup=self._cgroup.path if self._cgroup is not None and place.runtime.own_cgroup else "",
            seccomp=place.seccomp,
            seccomp_program=place.seccomp_program,
        )
        (directory / "config.json").write_text(json.dumps(config(contained)))
        command = [
            *self._runtime(), "--log", str(directory / "log"), *place.runtime.options,
            "run", "--detach", "--pid-file", str(directory / "pid"), "--bundle", str(directory),
            *(["--preserve-fds", str(len(descriptors))] if place.runtime.passes_descriptors else []), launch.container_id,
        ]  # fmt: skip
        place.starting.add(launcher.pid)
        try:
            launcher.become(command, launch.output, descriptors)
        except OSError:
            if cause := self.cause():  # its limit is less than even the shell takes
                raise OSError(0, cause) from None
            raise
        self._failed = failed
        _when_ended(launcher.pid, lambda: self._runtime_ended(launcher.pid, started))

    def _environment(self, launch: Launch) -> dict[str, str]:
        image = self._place.ground.image
        if launch.stack.config.own_root:
            return own_root_environment(os.environ, asked_environment(launch, "", SYSTEM_PATH), launch.container_id)
        asked = asked_environment(launch, PACKAGES, image.path)
        return contained_environment(os.environ, asked, image, launch.container_id)

    def _as_files(self, descriptors: Descriptors) -> list[str]:
        """What to tell an agent that gets no descriptors: the paths of a copy of its ``Begin`` and of its notes."""
        begin, notes = self._root.directory / "begin", f"/proc/{os.getpid()}/fd/{descriptors.notes}"
        with open(f"/proc/self/fd/{descriptors.begin}", "rb") as source, begin.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        self._root.show_files({str(begin): BEGIN, os.readlink(notes): NOTES})
        return [BEGIN, "-1", NOTES, "-1"]

    @guarded
    def _runtime_ended(self, pid: int, started: Callable[[int], None]) -> None:
        self._place.starting.discard(pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if self._launcher is not None:
            self._launcher.became()
        _reap_strays(self._place.starting)
        self._root.detach()
        if code == 0:
            supervisor = int((self._root.directory / "pid").read_text())
            self._watch_kills()
            started(supervisor)
            return
        how = f"was killed by signal {-code}" if code < 0 else _last_line(self._root.directory / "log")
        self._failed(self.cause() or f"{self._place.runtime.name}: {how or f'exit status {code}'}")

    def _watch_kills(self) -> None:
        if self._cgroup is not None:
            self._kills = Kills(self._cgroup, lambda: noted_agent(self._directory), self._place.memory_events)
            self._kills.watch()

    def broke(self, error: Exception) -> None:
        """Nobody knows by now what the runtime did: the container is not to be."""
        self._failed(own_error(self._container_id, error))

    def end(self, pidfd: int) -> None:
        """The supervisor is process 1: the kernel ends everything with it."""
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def processes(self) -> list[int]:
        """By its group; where there are none, by their environment."""
        if self._cgroup is not None:
            launcher = self._launcher
            runtime = [launcher.pid] if launcher is not None and launcher.pid in self._place.starting else []
            return [*self._cgroup.processes(), *runtime]
        return marked_processes({CONTAINER: self._container_id})

    def supervisor(self) -> int | None:
        """Process 1 of a namespace of its own."""
        return next((pid for pid in self.processes() if is_first_of_its_own(pid)), None)

    def enter(self) -> list[str]:
        """From wherever the person is into this process's mounts, where the runtime knows the container, and into its group."""
        nsenter = ["nsenter", f"--mount=/proc/{os.getpid()}/ns/mnt", "--"]
        joins = self._cgroup.joins() if self._cgroup is not None else []
        join = ["/bin/sh", "-c", _JOIN, "sh", str(len(joins)), *joins]
        runtime = self._place.runtime
        return [*nsenter, *join, *self._runtime(), *runtime.options, "exec", *runtime.exec_options]

    def _runtime(self) -> list[str]:
        return [self._place.runtime.program, "--root", str(BASE / "state")]

    def cause(self) -> str:
        """Whether it was its memory."""
        outlived = self._kills.outlived if self._kills is not None else 0
        return self._cgroup.out_of_memory(outlived) if self._cgroup is not None else ""

    def release(self) -> None:
        """In reverse, and what the runtime keeps of it."""
        if self._kills is not None:
            self._kills.close()
        if self._launcher is not None:
            self._place.drop(self._launcher)
        elif self._cgroup is not None:
            self._cgroup.release()
        self._root.release()
        shutil.rmtree(BASE / "state" / self._container_id, ignore_errors=True)


def _open_door(run: Path) -> Path:
    """A directory with the server's socket in it: what containers are given of the run directory, which is ours alone. Those that
    outlive their server find the next one's there."""
    door = run / "door"
    door.mkdir(mode=0o755, exist_ok=True)
    (run / "server.sock").chmod(0o666)
    new = run / "door.new"
    new.unlink(missing_ok=True)
    new.hardlink_to(run / "server.sock")
    new.rename(door / "server.sock")
    return door


def _adopt_what_runtimes_leave() -> None:
    """A container whose runtime has ended becomes this process's child."""
    import ctypes

    ctypes.CDLL(None).prctl(_BECOME_PARENT, 1, 0, 0, 0)


def _try_what_every_container_needs(base: Path, scratch: Path) -> None:
    """A root over the state directory's file system, and a user namespace: better missed now than by each container.

    Raises:
        OSError: this machine, or where the state directory lies, can't have them.
    """
    most = Path("/proc/sys/user/max_user_namespaces")
    if most.exists() and most.read_text().strip() == "0":
        raise OSError(0, "user namespaces are switched off (sysctl user.max_user_namespaces=65536)")
    parts = [scratch / ".trial", *(scratch / ".trial" / name for name in ("lower", "upper", "work", "root"))]
    try:
        for part in parts:
            part.mkdir()
        lower, upper, work, root = map(str, parts[1:])
        mounts.mount("overlay", root, mounts.NODEV, f"lowerdir={lower},upperdir={upper},workdir={work}")
        mounts.detach(root)
    except OSError as error:
        raise OSError(0, f"no overlay can be mounted on the state directory: {error.strerror}") from None
    finally:
        for part in (parts[3] / "work", *reversed(parts)):
            with contextlib.suppress(OSError):  # it was not made
                part.rmdir()


def _reap_strays(awaited: set[int]) -> None:
    """Runtimes leave helpers of theirs behind, dead already; nobody else waits for those."""
    for task in Path("/proc/self/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue  # a thread that has just ended; or a kernel that doesn't tell, where they stay until this process ends
        for pid in map(int, children):
            # A supervisor that has ended already is its runner's, who must find it.
            if pid not in awaited and not is_first_of_its_own(pid):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def _unmount_unified_beside_v1() -> None:
    """crun refuses a version 2 mounted beside version 1; in this namespace it can do without."""
    mountinfo = Path("/proc/self/mountinfo").read_text()
    try:
        if read_layout(mountinfo).version == 2:
            return
    except Unavailable:
        pass  # whatever there is, crun wants one kind of it
    points = mounts.mount_points(mountinfo)
    if any(kind == "cgroup" for _, kind, _ in points):
        for where, kind, _ in points:
            if kind == "cgroup2":
                mounts.detach(where)


def _when_ended(pid: int, then: Callable[[], None]) -> None:
    """Call back on the loop once a child can be waited for."""
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(pid)

    def ended() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        then()

    loop.add_reader(pidfd, ended)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else ""
