"""What an OCI runtime is told of a container: a pure function of what it is to be."""

from typing import Any, NamedTuple

from greenroom.worker.id_range import SIZE

CAPABILITIES = [
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
]  # fmt: skip
"""Docker's default; over what belongs to the container's own user namespace, and nothing else."""
_OF_BUILDERS = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]
MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
    "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
]  # fmt: skip
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


class Contained(NamedTuple):
    """One container's process and what is around it."""

    args: list[str]
    environment: dict[str, str]
    root: str
    """Path of its root file system on the host."""
    hostname: str
    workdir: str
    first_id: int
    """The host's user that is root inside; -1: no user namespace, where the runtime has walls of its own."""
    block_network: bool
    cgroup: str
    seccomp: dict[str, Any]
    seccomp_program: str
    """The same, compiled, in base64: crun takes it instead; ``""``: there is none."""
    privileged: bool = False
    """It may mount, and make containers of its own, within its user namespace: for programs of the host's that make a base."""


def config(contained: Contained) -> dict[str, Any]:
    """The content of ``config.json``."""
    namespaces = ["pid", "ipc", "uts", "mount", "cgroup"]
    # A mount of /proc is refused where another one has something hidden.
    walls = {"maskedPaths": MASKED, "readonlyPaths": READONLY, "seccomp": contained.seccomp}
    linux: dict[str, Any] = {} if contained.privileged else walls
    capabilities = [*CAPABILITIES, *(_OF_BUILDERS if contained.privileged else [])]
    if contained.block_network:
        namespaces.append("network")
    if contained.first_id >= 0:
        namespaces.append("user")
        mapping = [{"containerID": 0, "hostID": contained.first_id, "size": SIZE}]
        linux |= {"uidMappings": mapping, "gidMappings": mapping}
    if contained.cgroup:
        linux["cgroupsPath"] = "/" + contained.cgroup
    linux["namespaces"] = [{"type": name} for name in namespaces]
    compiled = contained.seccomp_program and not contained.privileged
    annotations = {"run.oci.seccomp_bpf_data": contained.seccomp_program} if compiled else {}
    return {
        "ociVersion": "1.0.2",
        "annotations": annotations,
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": contained.args,
            "env": [f"{name}={value}" for name, value in contained.environment.items()],
            "cwd": contained.workdir,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": True,
        },
        "root": {"path": contained.root},
        "hostname": contained.hostname,
        "mounts": [
            _mount("/proc", "proc", ["nosuid", "noexec", "nodev"]),
            _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=64k"]),
            _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            _mount("/dev/mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
            _mount("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777"]),  # noqa: S108 - the container's own
        ],
        "linux": linux,
    }


def _mount(where: str, kind: str, options: list[str]) -> dict[str, Any]:
    return {"destination": where, "type": kind, "source": kind, "options": options}
