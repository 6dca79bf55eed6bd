"""Finding processes that are ours, whoever their parent is by now: by a mark in their environment."""

import errno
import os
import signal
from collections.abc import Mapping
from typing import NamedTuple

CONTAINER = "GREENROOM_CONTAINER_ID"
RUN = "GREENROOM_RUN"
_EXITING = 4  # PF_EXITING
CANNOT_LOOK = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say nothing of what was looked for."""


class Identity(NamedTuple):
    """A process, told from a later one with the same number by when it started."""

    pid: int
    started: int
    """Clock ticks after the machine's start."""


def identify(pid: int) -> Identity | None:
    """The process with that number, if one lives."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else Identity(pid, int(fields[19]))


def marked_processes(marks: Mapping[str, str]) -> list[int]:
    """Processes with all of these environment variables, this one apart; those of other users can't be seen.

    Raises:
        OSError: there is no descriptor or no memory left to look with, which is not to be taken for no process.
    """
    wanted = {os.fsencode(f"{name}={value}") for name, value in marks.items()}
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                if wanted.issubset(file.read().split(b"\0")):
                    found.append(int(entry))
        except OSError as error:
            if error.errno in CANNOT_LOOK:
                raise
            continue
    return found


def is_first_of_its_own(pid: int) -> bool:
    """Whether it is process 1 of a namespace below this one."""
    numbers = _status(pid).get("NSpid", "").split()
    return len(numbers) > 1 and numbers[-1] == "1"


def number_inside(pid: int) -> int | None:
    """Its process id as it sees it itself; None when it has gone."""
    numbers = _status(pid).get("NSpid", "").split()
    return int(numbers[-1]) if numbers else None


def is_dying(pid: int) -> bool:
    """Whether it has ended, or must: SIGKILL waits for it, or it is on its way out, which can take long with much memory."""
    status = _status(pid)
    if not status or status["State"][0] in "ZX":
        return True
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            flags = int(file.read().rpartition(")")[2].split()[6])
    except OSError:
        return True
    return bool(pending >> (signal.SIGKILL - 1) & 1 or flags & _EXITING)


def _status(pid: int) -> dict[str, str]:
    """``/proc/PID/status``; ``{}`` when it has gone."""
    try:
        with open(f"/proc/{pid}/status", errors="replace") as file:
            lines = [line.partition(":") for line in file]
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in lines}


def kill(pid: int) -> None:
    """SIGKILL; a process that has gone, or that became another user's, is let be."""
    if pid <= 0:
        raise ValueError(f"{pid} is no process")
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
