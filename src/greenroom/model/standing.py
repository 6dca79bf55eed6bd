"""The server that stays, of a state directory: there is one at the most, and ``server.json`` says where it listens.

Its token is in that file, which nobody but its user can read.
"""

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import NamedTuple

from greenroom.model.errors import InvalidError

FILE = "server.json"
LOCK = "server.lock"


class Standing(NamedTuple):
    """Where it listens, and how to be let in."""

    socket: str
    token: str
    pid: int


def hold(home: Path) -> int:
    """Be the one, for as long as the descriptor that is returned is open.

    Raises:
        InvalidError: there is one.
    """
    lock = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        there = find(home)
        which = f" (process {there.pid})" if there is not None else ""
        raise InvalidError(f"a server stays in {home} already{which}; end it first, or set GREENROOM_HOME") from None
    return lock


def publish(home: Path, standing: Standing) -> None:
    """From now on it is found; raises OSError."""
    new = home / f".{FILE}.new"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(standing._asdict(), file)
    os.rename(new, home / FILE)


def withdraw(home: Path) -> None:
    """It is found no more."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(home / FILE)


def find(home: Path) -> Standing | None:
    """The one, as it said itself; None: there is none."""
    try:
        found = Standing(**json.loads((home / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return found if os.path.exists(f"/proc/{found.pid}") else None  # it may have died
