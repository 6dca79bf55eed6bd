"""The plain process: no isolation but an environment, a working directory and a session of its own. Works everywhere."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from greenroom.worker.environment import container_environment
from greenroom.worker.processes import CONTAINER, RUN, marked_processes
from greenroom.worker.sandbox.base import Descriptors, Launch


class ProcessSandboxes:
    """See :class:`greenroom.worker.sandbox.base.Sandboxes`."""

    name = "process"
    inline_only = False
    keeps_limits = "containers are plain processes here"

    def __init__(self, lacks: str = "") -> None:
        self.lacks = lacks

    def sandbox(self, launch: Launch) -> "ProcessSandbox":
        """For a new container."""
        return ProcessSandbox(launch.container_id, launch.directory, launch)

    def left(self, container_id: str, directory: Path) -> "ProcessSandbox":
        """Of one that is there already."""
        return ProcessSandbox(container_id, directory, None)

    def code(self, code: Path) -> str:
        """Where it is."""
        return str(code)

    def socket(self, path: str) -> str:
        """Where it is."""
        return path

    def close(self) -> None:
        """Nothing to do."""


class ProcessSandbox:
    """See :class:`greenroom.worker.sandbox.base.Sandbox`."""

    def __init__(self, container_id: str, directory: Path, launch: Launch | None) -> None:
        self._container_id = container_id
        self._directory = directory
        self._home = directory / "home"
        self._launch = launch

    def acquire(self) -> None:
        """A working directory."""
        if self._launch is not None and self._launch.limits.block_network:
            raise OSError(0, "block_network=True needs a real container, and this is a plain process")
        self._home.mkdir(mode=0o700)

    def adopt(self) -> None:
        """It's all in the container's directory."""

    def start(self, descriptors: Descriptors, started: Callable[[int], None], failed: Callable[[str], None]) -> None:
        """In a session of its own, so that the terminal's Ctrl-C doesn't reach it."""
        launch = self._launch
        assert launch is not None
        # -P: what the user's code writes into its working directory must not get into the agent.
        command = [
            sys.executable, "-P", "-m", "greenroom.agent",
            "--begin", str(descriptors.begin),
            "--ledger", str(descriptors.ledger),
            "--notes", str(descriptors.notes),
            "--watch", str(descriptors.watch),
            "--dir", str(launch.directory),
            "--backstop", str(launch.backstop),
        ]  # fmt: skip
        output = os.open(launch.output, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            process = subprocess.Popen(
                command,
                cwd=self._home,
                env=container_environment(os.environ, launch.asked, launch.container_id, str(launch.run)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=descriptors,
                start_new_session=True,
            )
        finally:
            os.close(output)
        process.returncode = 0  # the runner waits for it, by its pidfd; Popen must not
        started(process.pid)

    def end(self, pidfd: int) -> None:
        """Its supervisor does that, and writes down the end."""
        signal.pidfd_send_signal(pidfd, signal.SIGUSR1)

    def processes(self) -> list[int]:
        """By the marks in their environment."""
        return marked_processes({CONTAINER: self._container_id, RUN: str(self._directory.parent.parent)})

    def supervisor(self) -> int | None:
        """It looks like its agent."""
        return None

    def enter(self) -> list[str]:
        """Nothing stands around it."""
        return []

    def cause(self) -> str:
        """Nobody here knows more than the signal's number."""
        return ""

    def release(self) -> None:
        """It all goes with the container's directory."""
