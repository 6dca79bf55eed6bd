"""What every sandbox can do."""

from pathlib import Path
from typing import NamedTuple, Protocol


class Launch(NamedTuple):
    """What a container's processes are to find."""

    container_id: str
    directory: Path
    """Where the supervisor writes down how the container ends."""
    home: Path
    """Working directory."""
    output: Path
    """The file that stdout and stderr are appended to; it exists."""
    environment: dict[str, str]
    watch_fd: int
    """Read end of a pipe whose other end closes when the worker is gone; stays the caller's to close."""
    backstop: float
    """Seconds after which a container that lost its worker is killed."""


class Sandbox(Protocol):
    """Starts a container's supervisor."""

    def start(self, launch: Launch, begin_fd: int, ledger_fd: int) -> int:
        """Start it; the supervisor's process id, a child of this process, which must wait for it.

        ``begin_fd`` holds the agent's ``Begin``, ``ledger_fd`` is its ledger; they stay the caller's to close.

        Raises:
            OSError: it can't be started; nothing of it is left.
            ValueError: its environment can't be any process's.
        """
