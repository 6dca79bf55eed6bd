"""What every sandbox can do.

The :class:`Sandboxes` of a worker make one :class:`Sandbox` for each container. A runner acquires it, starts the
container's supervisor in it, waits for that process to end, and releases it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from greenroom.model.spec import Limits


class Launch(NamedTuple):
    """What a container's processes are to find."""

    container_id: str
    directory: Path
    """The container's own, on the host; the sandbox may put there what it needs."""
    run: Path
    """The server's run directory."""
    output: Path
    """The file that stdout and stderr are appended to; it exists."""
    asked: dict[str, str]
    """Environment variables that the function asked for."""
    code: Path | None
    """Directory of the program's files, on the host."""
    backstop: float
    """Seconds after which a container that lost its worker is killed."""
    limits: Limits


class Descriptors(NamedTuple):
    """What a supervisor is born with. They stay the caller's to close."""

    begin: int
    """The agent's ``Begin``."""
    ledger: int
    notes: int
    """Where the supervisor writes down how the container ends."""
    watch: int
    """Read end of a pipe whose other end closes when the worker is gone."""


class Sandbox(Protocol):
    """One container's.

    ``acquire`` comes first, ``release`` last and once. ``adopt`` stands in for ``acquire`` and ``start``, where the worker
    before this one did both.
    """

    def acquire(self) -> None:
        """Get what the container needs beside processes. Raises OSError; then nothing is held."""

    def adopt(self) -> None:
        """Take over what another worker has acquired."""

    def start(self, descriptors: Descriptors, started: Callable[[int], None], failed: Callable[[str], None]) -> None:
        """Start the supervisor; then call ``started`` with its process id, which is a child's of this process, or ``failed``
        with a line that says why; either at once or later, on the loop.

        Raises:
            OSError: it can't be started.
            ValueError: its environment can't be any process's.
        """

    def end(self, pidfd: int) -> None:
        """Begin the end of the supervisor behind ``pidfd`` and of everything below it, without exit hooks."""

    def processes(self) -> list[int]:
        """Every process of the container that can be found. May be called before ``start`` and after the supervisor's end."""

    def supervisor(self) -> int | None:
        """The supervisor's process id, where it can be told from the others though nobody has noted it."""

    def enter(self) -> list[str]:
        """What to put before a command that a person wants to run in it; ``[]``: nothing."""

    def cause(self) -> str:
        """Why a process of it was killed, as far as the sandbox knows, such as ``out of memory: limit 512 MiB``; else ``""``."""

    def release(self) -> None:
        """Give everything back; no process is left. May block; called in a thread."""


class Sandboxes(Protocol):
    """The sandboxes of one worker."""

    name: str
    """``oci`` or ``process``."""
    lacks: str
    """What a person should know that containers here lack, in a line; ``""``: nothing."""
    keeps_limits: str
    """``""`` where ``cpu=`` and ``memory=`` are kept, else why they are not."""

    inline_only: bool
    """No descriptor can be passed into containers."""

    def sandbox(self, launch: Launch) -> Sandbox:
        """For a new container."""

    def left(self, container_id: str, directory: Path) -> Sandbox:
        """Of a container that the worker before this one started; :meth:`Sandbox.adopt` comes next."""

    def code(self, code: Path) -> str:
        """Where a container finds the program's files."""

    def socket(self, path: str) -> str:
        """Where a container finds the server's socket."""

    def close(self) -> None:
        """The worker ends."""
