"""A container's own directory: its output, and who supervises it and how it ended."""

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from greenroom.worker.processes import CANNOT_LOOK, Identity, identify
from greenroom.worker.removal import remove_tree

ROOM = 1024
"""Bytes of each note. They are taken when the container starts, so that a disk that fills up later loses none."""


class Exit(NamedTuple):
    """How an agent ended."""

    code: int
    """Exit status; negative: the signal that killed it."""
    deadline_expired: bool


class Scratch:
    """``run/<server>/containers/<id>``: made by :meth:`acquire`, removed by :meth:`release`.

    ``supervisor.json`` is the worker's. ``notes`` is the supervisor's: the agent's process id as it sees it, and how the
    agent ended, each with a place of its own.
    """

    def __init__(self, containers: Path, container_id: str, logs: Path) -> None:
        self.container_id = container_id
        self._logs = logs
        self.directory = containers / container_id
        self.output = self.directory / "output"

    def acquire(self) -> None:
        """Make it; raises OSError on a full or read-only disk."""
        self.directory.parent.mkdir(mode=0o700, exist_ok=True)
        self.directory.mkdir(mode=0o700)
        try:
            (self.directory / "supervisor.json").write_text(" " * ROOM)
            (self.directory / "notes").write_text(" " * 2 * ROOM)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Keep its output, remove all else, whatever user code did to the permissions below."""
        with contextlib.suppress(OSError):  # it printed nothing, or there is no room for another name
            if self.output.stat().st_size:
                self._logs.mkdir(mode=0o700, exist_ok=True)
                self.output.rename(self._logs / f"{self.container_id}.log")
        remove_tree(self.directory)

    def open_notes(self) -> int:
        """A descriptor for the supervisor to write them by; the caller closes it."""
        return os.open(self.directory / "notes", os.O_WRONLY | os.O_CLOEXEC)

    def note_supervisor(self, pid: int) -> None:
        """Keep who supervises it, for a worker that comes after this one."""
        if (identity := identify(pid)) is not None:
            with open(self.directory / "supervisor.json", "r+") as file:
                file.write(json.dumps(list(identity)))

    def supervisor(self) -> Identity | None:
        """Who supervises it, if that process is still there."""
        noted = _noted(self.directory, "supervisor.json", 0)
        if not isinstance(noted, list) or len(noted) != 2:
            return None
        identity = Identity(*noted)
        return identity if identify(identity.pid) == identity else None

    def was_started(self) -> bool:
        """Whether it ever had a supervisor, as far as is known."""
        return any(_noted(self.directory, name, 0) is not None for name in ("supervisor.json", "notes"))

    def agent(self) -> int | None:
        """The agent's process id, as its supervisor noted it; it may have ended."""
        return noted_agent(self.directory)

    def exit(self) -> Exit | None:
        """How the agent ended, if its supervisor could write it down."""
        noted = _noted(self.directory, "notes", 1)
        try:
            code = noted["exit_code"] if noted["signal"] is None else -noted["signal"]  # type: ignore[index]
            return Exit(int(code), bool(noted["deadline_expired"]))  # type: ignore[index]
        except (TypeError, KeyError, ValueError, OverflowError):
            return None  # not there yet; or a program wrote over its supervisor's notes, and knows no better end


def noted_agent(directory: Path) -> int | None:
    """The agent's process id as its supervisor noted it in a container's directory; it may have ended."""
    noted = _noted(directory, "notes", 0)
    return noted if isinstance(noted, int) else None


def _noted(directory: Path, name: str, place: int) -> object:
    """However much user code may have written there, no more than a note is read. Raises OSError: it can't be, just now."""
    try:
        with open(directory / name, "rb") as file:
            file.seek(place * ROOM)
            return json.loads(file.read(ROOM))
    except OSError as error:
        if error.errno in CANNOT_LOOK:
            raise
    except (ValueError, RecursionError):
        pass  # not written yet; or its writer was killed
    return None
