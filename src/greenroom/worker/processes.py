"""Finding processes that are ours, whoever their parent is by now: by a mark in their environment."""

import os
import signal
from collections.abc import Mapping
from typing import NamedTuple

CONTAINER = "GREENROOM_CONTAINER_ID"
RUN = "GREENROOM_RUN"


class Identity(NamedTuple):
    """A process, told from a later one with the same number by when it started."""

    pid: int
    started: int
    """Clock ticks after the machine's start."""


def identify(pid: int) -> Identity | None:
    """The process with that number, if one lives."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else Identity(pid, int(fields[19]))


def marked_processes(marks: Mapping[str, str]) -> list[int]:
    """Processes with all of these environment variables, this one apart; those of other users can't be seen."""
    wanted = {os.fsencode(f"{name}={value}") for name, value in marks.items()}
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as file:
                if wanted.issubset(file.read().split(b"\0")):
                    found.append(int(entry))
        except OSError:
            continue
    return found


def is_first_of_its_own(pid: int) -> bool:
    """Whether it is process 1 of a namespace below this one."""
    try:
        with open(f"/proc/{pid}/status") as file:
            numbers = next(line.split()[1:] for line in file if line.startswith("NSpid:"))
    except (OSError, StopIteration):
        return False
    return len(numbers) > 1 and numbers[-1] == "1"


def kill(pid: int) -> None:
    """SIGKILL; a process that has gone, or that became another user's, is let be."""
    if pid <= 0:
        raise ValueError(f"{pid} is no process")
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
