"""A shell that has joined a container's control groups ahead of time, and waits to become the runtime that starts it.

To move a process into a group takes the kernel a grace period, some 10 ms, however little the machine has to do: as much
as all else that a start costs. So the next container's shell is always made while the last one starts.
"""

import itertools
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from greenroom.worker.cgroups import Cgroups
from greenroom.worker.processes import identify
from greenroom.worker.sandbox.base import Descriptors

FIRST_FD = 3
"""Number of the first descriptor that a supervisor is born with."""
_WAIT = 'for file; do echo 0 > "$file" || exit 125; done; read -r script && . "$script"'
_count = itertools.count(1)


class Launcher:
    """One such shell. Its group is the container's, and goes with that."""

    def __init__(self, cgroups: Cgroups | None, directory: Path, *, join: bool) -> None:
        """Raises OSError; then nothing of it is left.

        ``cgroups``: None where there are none. ``join``: not where the runtime puts the container into the group, since
        some (runc from 1.2 on) refuse a group that isn't empty.
        """
        number = next(_count)
        self._script = directory / f"start-{number}"
        self._kept: list[int] = []
        """Descriptors that it is to open by their numbers here."""
        self.group = cgroups.group(f"{os.getpid()}-{number}") if cgroups is not None else None
        if self.group is not None:
            self.group.acquire()
        reader, self._writer = os.pipe2(os.O_CLOEXEC)
        try:
            self.pid = os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", _WAIT, "sh", *(self.group.joins() if join and self.group is not None else [])],
                {"PATH": os.environ.get("PATH", os.defpath)},
                file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)],
                setsid=True,
            )
        except BaseException:
            self.drop()
            raise
        finally:
            os.close(reader)

    def become(self, command: Sequence[str], output: Path, descriptors: Descriptors) -> None:
        """Become ``command``, which gets ``descriptors`` as its numbers 3 and up, and writes to ``output``.

        Raises:
            OSError: it has gone, or there is no room for its script.
        """
        self._kept = [os.dup(fd) for fd in descriptors]
        modes = ["<" if fd == descriptors.watch else "<>" for fd in descriptors]
        ours = f"/proc/{os.getpid()}/fd"
        opened = [
            f"{number}{mode}{ours}/{fd}"
            for number, (mode, fd) in enumerate(zip(modes, self._kept, strict=True), FIRST_FD)
        ]
        self._script.write_text(
            f"exec {' '.join(opened)} </dev/null >>{shlex.quote(str(output))} 2>&1\nexec {shlex.join(command)}\n"
        )
        writer, self._writer = self._writer, -1
        try:
            os.write(writer, f"{self._script}\n".encode())
        finally:
            os.close(writer)

    def became(self) -> None:
        """It has ended as what it became: it has opened what it was given."""
        for fd in self._kept:
            os.close(fd)
        self._kept.clear()

    def alive(self) -> bool:
        """Whether it still waits: anybody may have killed it."""
        return identify(self.pid) is not None

    def drop(self) -> None:
        """Nothing is to be left of it, or of what it became."""
        self.became()
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1
        if self.group is not None:
            self.group.release()
        self._script.unlink(missing_ok=True)
