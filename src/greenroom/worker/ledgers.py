"""What a container's agent has begun and finished, as its worker has it: while it lives, and until its end is told and safe.

The ledger of a container that may outlive its server is a file in the container's directory. When the container has
ended it is set aside, with how it ended, before anything else of it is removed; it stays there until the server says that
what followed is safe. Whichever worker is there by then tells of it.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from greenroom.wire.lasting import End, Left, make_lasting, note_end, noted_end, read_lasting
from greenroom.wire.ledger import make_ledger, read_ledger
from greenroom.wire.messages import ContainerEnded
from greenroom.wire.payload import Payload
from greenroom.wire.status import Status

LEDGER = "ledger"
"""In a container's directory."""


class ContainerLedger:
    """One container's."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / LEDGER
        self._aside = _aside(directory.parent.parent, directory.name)
        self._lasting = False
        self.fd = -1
        """To hand in to the agent; -1: there is none."""

    def make(self, *, lasting: bool) -> None:
        """For a new container; raises OSError. ``lasting``: it may outlive its server."""
        self._lasting = lasting
        self.fd = make_lasting(os.fspath(self._file)) if lasting else make_ledger()

    def adopt(self) -> None:
        """That of a container of the worker before this one, if it has one in a file."""
        with contextlib.suppress(OSError):  # it hasn't
            self.fd = os.open(self._file, os.O_RDWR | os.O_CLOEXEC)
            self._lasting = True

    def set_aside(self, reason: str, started: bool) -> None:
        """The container has ended so: keep that, and what it leaves."""
        if self._lasting and self.fd >= 0:
            with contextlib.suppress(OSError):  # it is told now, or never
                note_end(self.fd, reason, started)
                self._aside.parent.mkdir(mode=0o700, exist_ok=True)
                self._file.rename(self._aside)

    def take(self) -> Left:
        """What it says; it is closed."""
        fd, self.fd = self.fd, -1
        if fd < 0:
            return Left()
        try:
            if self._lasting:
                return read_lasting(fd)
            begun, results = read_ledger(fd)
            return Left(begun, [], [(seq, Status.OK, payload) for seq, payload in results])
        finally:
            os.close(fd)

    def close(self) -> None:
        """Another worker has it from now on."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def ended(container_id: str, end: End, left: Left) -> tuple[ContainerEnded, list[Payload]]:
    """What is said of a container's end, and the payloads of its results."""
    message = ContainerEnded(
        container_id,
        end.reason,
        end.started,
        left.begun,
        [seq for seq, _, _ in left.results],
        [],
        [status for _, status, _ in left.results],
        left.items,
    )
    return message, [payload for _, _, payload in left.results]


def told_before(run: Path, container_id: str) -> tuple[ContainerEnded, list[Payload]] | None:
    """Of a container that has ended under a worker before this one, and whose end may not have been heard."""
    try:
        fd = os.open(_aside(run, container_id), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        end = noted_end(fd)
        return ended(container_id, end, read_lasting(fd)) if end is not None else None
    finally:
        os.close(fd)


def settled(run: Path, container_id: str) -> None:
    """Nobody will ask for it again."""
    _aside(run, container_id).unlink(missing_ok=True)


def forget_others(run: Path, container_ids: Iterable[str]) -> None:
    """Those that a server has not named are nobody's."""
    named = set(container_ids)
    for file in (run / "ended").glob("*"):
        if file.name not in named:
            file.unlink(missing_ok=True)


def _aside(run: Path, container_id: str) -> Path:
    return run / "ended" / container_id
