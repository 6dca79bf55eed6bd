"""What ``greenroom doctor`` looks at. Where a thing can be tried, it is tried, not read about."""

import errno
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from greenroom.model.settings import home_directory
from greenroom.wire.connection import MAX_SOCKET_PATH

TRIAL = 20.0
"""Seconds that a command we try may take."""
SYSTEM = "/usr/sbin:/sbin"
"""Where a user's path may not lead, and the worker looks too."""
LITTLE = 0.5
"""GiB of free space below which the state directory is short of it."""


class Finding(NamedTuple):
    """One check."""

    name: str
    ok: bool
    text: str
    mend: str = ""
    """The one command that mends a lack; ``""`` when nothing does, or need be done."""
    needed: bool = False
    """Whether ``greenroom run`` needs it today."""


def python() -> Finding:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        "Python", sys.version_info >= (3, 11), f"{version}, {sys.executable}", "apt-get install python3.11", needed=True
    )


def state_directory() -> Finding:
    """Whether it can be written, takes a socket, and has room."""
    name, home = "state directory", home_directory()
    path = home
    while not path.exists():
        path = path.parent
    mend = f"export GREENROOM_HOME={os.path.join(tempfile.gettempdir(), f'greenroom-{os.getuid()}')}"
    if len(os.fsencode(home / "run" / "0123456789abcdef" / "server.sock")) > MAX_SOCKET_PATH:
        return Finding(name, False, f"{home} is too long for a Unix socket", mend, needed=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".greenroom-", dir=path) as trial,
            socket.socket(socket.AF_UNIX) as sock,
        ):
            sock.bind(os.path.join(trial, "s"))
    except OSError as error:
        return Finding(name, False, f"{home} can't be written: {error.strerror or error}", mend, needed=True)
    free = shutil.disk_usage(path).free / 1024**3
    return Finding(name, free >= LITTLE, f"{home}, {free:.1f} GiB free", mend, needed=True)


def kernel() -> Finding:
    """The system calls that every run uses."""
    missing = []
    for name in ("memfd_create", "pidfd_open"):
        try:
            made = os.memfd_create("trial") if name == "memfd_create" else os.pidfd_open(os.getpid())
        except (AttributeError, OSError):
            missing.append(name)
        else:
            os.close(made)
    text = f"{os.uname().sysname} {os.uname().release}"
    return Finding("kernel", not missing, text + (f", without {', '.join(missing)}" if missing else ""), needed=True)


def open_files() -> Finding:
    """How many descriptors a process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = ["unlimited" if limit == resource.RLIM_INFINITY else str(limit) for limit in (soft, hard)]
    enough = hard == resource.RLIM_INFINITY or hard >= 1024
    return Finding("open files", enough, f"{shown[0]}, up to {shown[1]}", "ulimit -n 65536", needed=True)


def inotify() -> Finding:
    """How containers' output is noticed at once."""
    found = []
    for limit, least in (("max_user_watches", 1024), ("max_user_instances", 64)):
        try:
            value = int(Path("/proc/sys/fs/inotify", limit).read_text())
        except (OSError, ValueError):
            return Finding("inotify", False, "not there: containers' output comes a little later")
        if value < least:
            return Finding("inotify", False, f"{limit} is {value}", f"sysctl fs.inotify.{limit}={least * 64}")
        found.append(f"{value} {limit.rpartition('_')[2]}")
    return Finding("inotify", True, ", ".join(found))


def machine() -> Finding:
    """Cores and memory that we may use."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    ours, all_of_them = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    cores = f"{ours} cores" if ours == all_of_them else f"{ours} of {all_of_them} cores"
    return Finding("machine", True, f"{cores}, {memory:.1f} GiB of memory")


def gpu() -> Finding:
    """NVIDIA's, by its own tool."""
    if (tool := shutil.which("nvidia-smi")) is None:
        devices = list(Path("/dev").glob("nvidia[0-9]*"))
        if devices:
            return Finding("GPU", False, f"{len(devices)}, without nvidia-smi", "apt-get install nvidia-utils")
        return Finding("GPU", False, "none")
    status, out = _try([tool, "--query-gpu=name,memory.total", "--format=csv,noheader"])
    return Finding("GPU", status == 0 and bool(out), "; ".join(out.splitlines()) or "none that answers")


def runtime() -> Finding:
    """What starts real containers; the first that works."""
    name, (path, text) = "container runtime", _runtime("crun", "runc", "runsc")
    return Finding(name, bool(path), f"{path} ({text})" if path else text or "none", "apt-get install crun")


def _runtime(*programs: str) -> tuple[str, str]:
    """The first that works, and its version; or ``""``, and what is wrong with those that are there."""
    broken = []
    for program in programs:
        if (path := shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM}")) is None:
            continue
        status, out = _try([path, "--version"])
        if status == 0:
            return path, out.splitlines()[0] if out else "no version"
        broken.append(f"{path} does not run: {out.splitlines()[-1] if out else f'status {status}'}")
    return "", "; ".join(broken)


def sandbox() -> Finding:
    """What ``--sandbox auto`` chooses here."""
    name, plain = "sandbox", "plain processes, which can do and see what you can"
    if os.geteuid() != 0:
        command = shutil.which("greenroom") or "greenroom"
        return Finding(name, False, f"{plain}: real containers need root for now", f"sudo {command} run …")
    path, broken = _runtime("crun", "runc")
    if not path:
        return Finding(name, False, f"{plain}: {broken or 'there is no crun or runc here'}", "apt-get install crun")
    if (unshare := shutil.which("unshare")) is not None:
        status, out = _try([unshare, "--mount", "true"])
        if status != 0:
            return Finding(name, False, f"{plain}: no mount namespaces: {out or f'status {status}'}")
    return Finding(name, True, f"real containers, by {path}")


def user_namespaces() -> Finding:
    """Tried, in a child."""
    name = "user namespaces"
    unshare = shutil.which("unshare")
    if unshare is None:
        return Finding(name, False, "can't be tried without util-linux", "apt-get install util-linux")
    status, out = _try([unshare, "--user", "--map-root-user", "true"])
    if status == 0:
        return Finding(name, True, "work")
    return Finding(name, False, out.splitlines()[-1] if out else f"status {status}", _namespace_switch())


def _namespace_switch() -> str:
    """Which of the kernel's switches is off."""
    for switch, off, on in (
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user/max_user_namespaces", "0", "65536"),
    ):
        try:
            if Path("/proc/sys", switch).read_text().strip() == off:
                return f"sysctl {switch.replace('/', '.')}={on}"
        except OSError:
            continue
    return ""


def cgroups() -> Finding:
    """Which version, and whether a group can be made."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        kind, group = "v2", root
    elif (root / "unified" / "cgroup.procs").exists():
        kind, group = "v1, with v2 beside it", root / "unified"
    elif (root / "memory").exists():
        kind, group = "v1", root / "memory"
    else:
        return Finding("cgroups", False, "none mounted", "mount -t cgroup2 none /sys/fs/cgroup")
    trial = group / f"greenroom-doctor-{os.getpid()}"
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        return Finding("cgroups", False, f"{kind}, not ours to write: {error.strerror}")
    return Finding("cgroups", True, f"{kind}, writable")


def overlay() -> Finding:
    """Tried: a mount, in namespaces of a child that take it along when it ends."""
    name = "overlayfs"
    unshare = shutil.which("unshare")
    if unshare is None:
        return Finding(name, False, "can't be tried without util-linux", "apt-get install util-linux")
    script = 'cd "$1" && mount -t tmpfs none . && mkdir l u w m && mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m'
    flags = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    with tempfile.TemporaryDirectory(prefix="greenroom-") as directory:
        status, out = _try([unshare, *flags, "sh", "-c", script, "sh", directory])
    if status == 0:
        return Finding(name, True, "can be mounted")
    loaded = any(line.split()[-1] == "overlay" for line in Path("/proc/filesystems").read_text().splitlines())
    return Finding(
        name, False, out.splitlines()[-1] if out else f"status {status}", "" if loaded else "modprobe overlay"
    )


def id_ranges() -> Finding:
    """Users and groups that containers may have."""
    entries = []
    for file in ("/etc/subuid", "/etc/subgid"):
        try:
            lines = Path(file).read_text().splitlines()
        except OSError:
            lines = []
        entries.append([line for line in lines if line.count(":") == 2])
    if os.geteuid() == 0:
        taken = ", ".join(entry.replace(":", " from ", 1).replace(":", ", ") for entry in entries[0])
        return Finding("id ranges", True, f"root may take one; taken: {taken or 'none'}")
    import pwd

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    own = [any(e.split(":")[0] in (user, str(os.getuid())) for e in each) for each in entries]
    mend = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
    return Finding(
        "id ranges", all(own), "there" if all(own) else f"none for {user} in /etc/subuid and /etc/subgid", mend
    )


def seccomp() -> Finding:
    """System call filters."""
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    try:
        return Finding("seccomp", True, f"filters: {actions.read_text().strip()}")
    except OSError as error:
        text = "not in this kernel" if error.errno == errno.ENOENT else str(error.strerror)
        return Finding("seccomp", False, text)


def image_tools() -> Finding:
    """For images, which come later."""
    names = ("uv", "skopeo", "umoci", "mmdebstrap", "buildah")
    missing = [name for name in names if shutil.which(name) is None]
    if not missing:
        return Finding("image tools", True, ", ".join(names))
    packaged = [name for name in missing if name != "uv"]
    commands = ["pip install uv"] if "uv" in missing else []
    commands += [f"apt-get install {' '.join(packaged)}"] if packaged else []
    return Finding("image tools", False, f"no {', '.join(missing)}", " && ".join(commands))


def _try(command: list[str]) -> tuple[int, str]:
    """Run it; its status and what it said, or 127 and why it could not be run."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TRIAL, check=False)
    except subprocess.TimeoutExpired:
        return -signal.SIGKILL, f"no answer in {TRIAL:.0f} s"
    except OSError as error:
        return 127, error.strerror or str(error)
    return done.returncode, done.stdout.decode(errors="replace").strip()


CHECKS: list[Callable[[], Finding]] = [
    python, state_directory, kernel, open_files, inotify, machine, gpu,
    sandbox, runtime, user_namespaces, cgroups, overlay, id_ranges, seccomp, image_tools,
]  # fmt: skip
