"""What ``greenroom doctor`` looks at. Where a thing can be tried, it is tried, not read about."""

import errno
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from greenroom.cli.sandboxes import runtime_path
from greenroom.model.errors import InvalidError
from greenroom.model.sandbox_choice import PACKAGED, choose, find_program, mend, missing, without_real_ones
from greenroom.model.settings import Settings, home_directory, settings_from_environment
from greenroom.wire.connection import MAX_SOCKET_PATH

TRIAL = 20.0
"""Seconds that a command we try may take."""
OVERLAY = "mkdir l u w m && mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m"
"""Shell commands that try one in the working directory."""
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
    path = _first_that_exists(home)
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


def _first_that_exists(path: Path) -> Path:
    """It, or what it would be made in."""
    while not path.exists():
        path = path.parent
    return path


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


def settings() -> Finding:
    """What ``GREENROOM_…`` variables say."""
    try:
        _settings()
    except InvalidError as error:
        variable = re.match(r"\w+", str(error))
        return Finding("settings", False, str(error), f"unset {variable[0]}" if variable else "", needed=True)
    given = [name for name in Settings().environment() if os.environ.get(name)]
    return Finding("settings", True, ", ".join(f"{name}={os.environ[name]}" for name in given) or "all by default")


def sandbox() -> Finding:
    """What a run's containers are, by the worker's own rule."""
    name = "sandbox"
    try:
        asked = _settings()
    except InvalidError:
        return Finding(name, False, "not known: a setting is wrong")
    choice = choose(asked)
    if choice.program and (why := _withheld()):
        choice = without_real_ones(asked, why)
    if choice.sandbox == "oci":
        version, broken = _version(choice.program)
        if not version:
            text = f"real containers, by {choice.program}, and none will start: {broken}"
            return Finding(name, False, text, _other_runtime(choice.program, asked.runtime), needed=True)
        return Finding(name, True, f"real containers, by {choice.program}")
    if not choice.lacks:
        return Finding(name, True, "plain processes, which can do and see what you can, as GREENROOM_SANDBOX says")
    fix = choice.mend if os.geteuid() == 0 else f"sudo {shutil.which('greenroom') or 'greenroom'} run …"
    return Finding(name, False, choice.lacks, fix, needed=choice.sandbox == "none")


def _settings() -> Settings:
    """As a run has them.

    Raises:
        InvalidError: a run would be refused.
    """
    found = settings_from_environment()
    return found._replace(runtime=runtime_path(found.runtime))


def _withheld() -> str:
    """What of a real container's needs can't be had here; ``""``: nothing. Tried as the worker does, in a child."""
    if (unshare := shutil.which("unshare")) is None:
        return ""  # nothing here can try it
    status, out = _try([unshare, "--mount", "true"])
    if status != 0:
        return f"no mount namespaces: {out or f'status {status}'}"
    status, out = _try([unshare, "--user", "true"])
    if status != 0:
        return f"no user namespaces: {out or f'status {status}'}"
    try:
        with tempfile.TemporaryDirectory(prefix=".greenroom-", dir=_first_that_exists(home_directory())) as trial:
            status, out = _try([unshare, "--mount", "sh", "-c", f'cd "$1" && {OVERLAY}', "sh", trial])
    except OSError:
        return ""  # it can't be written, which is told elsewhere
    return "" if status == 0 else f"no overlay can be mounted on the state directory: {out or f'status {status}'}"


def _other_runtime(program: str, wanted: str) -> str:
    """What mends one that is there and does not run."""
    if wanted and wanted not in PACKAGED:
        return "unset GREENROOM_RUNTIME"
    return f"apt-get install --reinstall {os.path.basename(program)}"


def runtime() -> Finding:
    """What starts real containers, and whether it runs."""
    name, wanted = "container runtime", runtime_path(os.environ.get("GREENROOM_RUNTIME", ""))
    if (program := find_program(wanted)) is None:
        asked_for_alone = "" if wanted else find_program("runsc")
        text = f"{asked_for_alone} alone, which has to be asked for: --runtime runsc" if asked_for_alone else ""
        return Finding(name, False, text or missing(wanted), mend(wanted))
    version, broken = _version(program)
    return Finding(name, bool(version), f"{program} ({version})" if version else broken)


def _version(program: str) -> tuple[str, str]:
    """A runtime's version, or ``""`` and what is wrong with it."""
    status, out = _try([program, "--version"])
    if status == 0:
        return out.splitlines()[0] if out else "no version", ""
    return "", f"{program} does not run: {out.splitlines()[-1] if out else f'status {status}'}"


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
    script = f'cd "$1" && mount -t tmpfs none . && {OVERLAY}'
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
    """What makes images."""
    names = ("uv", "skopeo", "umoci", "mmdebstrap", "buildah")
    path = (
        f"{sysconfig.get_path('scripts')}:{os.environ.get('PATH', os.defpath)}"  # uv may be in this environment alone
    )
    missing = [name for name in names if shutil.which(name, path=path) is None]
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
    settings, sandbox, runtime, user_namespaces, cgroups, overlay, id_ranges, seccomp, image_tools,
]  # fmt: skip
