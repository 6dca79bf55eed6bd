"""Whose a run's control groups are, noted on themselves: a state directory may go, and leave nothing else to tell by.

The note is an extended attribute that root alone may write: the home, the worker that made them and its namespace of
process ids. Groups without a note, or of a program whose processes can't be seen from here, are somebody's.
"""

import contextlib
import json
import os
import time
from pathlib import Path

from greenroom.worker.processes import Identity, identify

NOTE = "trusted.greenroom"
ABANDONED = 3600.0
"""Seconds since they were noted before which nobody else judges groups."""


def note_owner(directory: Path, home: Path) -> None:
    """Note a run's group as this process's, where that can be."""
    identity = identify(os.getpid())
    if identity is not None:
        with contextlib.suppress(OSError):  # then only its own home's workers ever remove it
            os.setxattr(directory, NOTE, note_of(home, identity, time.time()))


def note_of(home: Path, worker: Identity, at: float) -> bytes:
    """The note's content."""
    return json.dumps([str(home.resolve()), _namespace(), *worker, at]).encode()


def is_nobodys(directory: Path) -> bool:
    """Whether the home has gone, and the worker with it, long enough ago."""
    try:
        home, namespace, pid, started, at = json.loads(os.getxattr(directory, NOTE))
    except (OSError, ValueError, TypeError):
        return False  # there is none, or it is of a version that writes another
    if namespace != _namespace() or time.time() - at < ABANDONED:
        return False
    # A worker may see a home that this process doesn't: as long as it lives, it is right.
    return not os.path.lexists(home) and identify(pid) != Identity(pid, started)


def _namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino
