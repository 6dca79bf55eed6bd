"""Ctrl-C and SIGTERM during a run: the first ends it in order, the second kills, the third leaves at once.

The handlers only note and raise. What writes or sends is done by a thread: a handler runs in the middle of whatever the
main thread was doing, which may hold the locks that writing and sending need.
"""

import atexit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

from greenroom.model.errors import ConnectionError
from greenroom.sdk.session import kill_current
from greenroom.sdk.streams import warn

_NUMBERS = (signal.SIGINT, signal.SIGTERM)
STOPPING = ("stopping: exit hooks run; once more to kill", "killing")
LEAVING = ("leaving: the app goes on", "leaving at once: the app goes on")


class Signals:
    """For ``with``; from the main thread. ``kill`` is called by the second signal; ``says``: what the first two say.

    Once a signal has come, the process ends with its status: later ones change nothing, to its very end, but for the
    third.
    """

    def __init__(self, kill: Callable[[], None] = kill_current, says: tuple[str, str] = STOPPING) -> None:
        self._kill = kill
        self._says = says
        self.received: list[int] = []
        self._interrupting = True
        self._acting = True
        self._said = threading.Event()
        """The first signal has been answered: what is told to end now ends after those words."""
        self._before = {number: signal.getsignal(number) for number in _NUMBERS}
        self._reader, self._writer = os.pipe()
        self._thread = threading.Thread(target=self._act, name="greenroom-signals", daemon=True)

    def __enter__(self) -> "Signals":
        atexit.register(self._ignore)  # before the program's own, so that it is called after them
        self._thread.start()
        for number in _NUMBERS:
            signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._interrupting = self._acting = False
        if not self.received:
            for number, handler in self._before.items():
                signal.signal(number, handler)
        os.close(self._writer)
        self._thread.join()
        os.close(self._reader)

    def program_ended(self) -> None:
        """From now on there is no user code to interrupt: the app is about to be stopped, and that goes on."""
        self._interrupting = False
        if self.received:
            self._said.wait()

    @property
    def status(self) -> int | None:
        """The exit status that the first signal asks for."""
        return 128 + self.received[0] if self.received else None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if len(self.received) > 2:
            os._exit(128 + self.received[0])
        if self._acting:
            os.write(self._writer, b"!")
        if self._interrupting:
            raise KeyboardInterrupt

    def _ignore(self) -> None:
        """Python's own end gives the signals back to the kernel, which would kill by the next one."""
        if self.received:
            for number in _NUMBERS:
                signal.signal(number, signal.SIG_IGN)

    def _act(self) -> None:
        if not os.read(self._reader, 1):
            return
        warn(f"\n{self._says[0]}")
        self._said.set()
        if not os.read(self._reader, 1):
            return
        warn(f"\n{self._says[1]}")
        try:
            self._kill()
        except (ConnectionError, OSError):
            return  # the server has gone, and its containers end by themselves
