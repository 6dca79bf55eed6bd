"""Mounts, by system call. All of them happen in this process's own mount namespace and end with its last process."""

import ctypes
import os

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
"""The same numbers in a mount's flags and in what statvfs says of one."""
_REMOUNT, _BIND, _REC, _SLAVE = 32, 4096, 16384, 1 << 19
_CLONE_NEWNS = 0x20000
_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def leave_mount_namespace() -> None:
    """From now on what this process mounts is seen by itself and its children alone; what the host mounts it sees.

    Raises:
        OSError: not allowed (CAP_SYS_ADMIN is needed).
    """
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _mount(None, "/", None, _REC | _SLAVE, None)


def mount(kind: str, target: str, flags: int = 0, options: str = "", source: str = "greenroom") -> None:
    """A new file system at ``target``; raises OSError."""
    _mount(source, target, kind, flags, options)


def bind(source: str, target: str, flags: int = RDONLY | NOSUID | NODEV) -> None:
    """Let ``target`` show ``source``, without what is mounted below it, and with no more rights than there; raises OSError."""
    _mount(source, target, None, _BIND, None)
    # A remount sets all of them: what the source's mount doesn't allow must be asked for again.
    kept = os.statvfs(target).f_flag & (RDONLY | NOSUID | NODEV | NOEXEC)
    _mount(None, target, None, _BIND | _REMOUNT | flags | kept, None)


def detach(target: str) -> None:
    """Unmount what is at ``target``, and below it, for this namespace; whoever uses it keeps it. Raises OSError."""
    _check(_libc.umount2(os.fsencode(target), _DETACH), target)


def mount_points(mountinfo: str) -> list[tuple[str, str, str]]:
    """``(where, file system type, its options)`` of each line of a ``/proc/PID/mountinfo``."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        where = (
            before.split(" ")[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
        )
        found.append((where, kind, options))
    return found


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None) -> None:
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _check(_libc.mount(*arguments[:3], ctypes.c_ulong(flags), arguments[3]), target)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
