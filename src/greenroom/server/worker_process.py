"""The process of a server's worker, which is its child."""

import asyncio
import os
import signal
from collections.abc import Callable

END = 5.0
"""Seconds in which a worker that has nothing left to do ends by itself."""


class WorkerProcess:
    """That of one server, as long as it has a worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.pid = 0
        """0: there is none."""
        self._loop = loop

    def kill(self) -> None:
        """End it, now."""
        os.kill(self.pid, signal.SIGKILL)

    def when_ended(self, then: Callable[[], None]) -> None:
        """It has nothing left to do: ``then`` is called once it has ended. Should it hang, that must not hang us."""
        pidfd = os.pidfd_open(self.pid)
        late = self._loop.call_later(END, signal.pidfd_send_signal, pidfd, signal.SIGKILL)

        def ended() -> None:
            late.cancel()
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
            os.waitpid(self.pid, 0)
            self.pid = 0
            then()

        self._loop.add_reader(pidfd, ended)
