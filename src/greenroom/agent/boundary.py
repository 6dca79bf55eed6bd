"""The border between our code and the user's: where an interrupt may land, and where a forked child ends.

The control thread names a task and sends a signal; the handler raises :class:`InputCancellation` when that task's user
code is what runs. Anywhere else it does nothing, and the control thread sends the signal again a little later: so an
interrupt never lands in another input, in our own code, or twice.
"""

import os
import signal
import socket
import sys
import threading
from types import FrameType, TracebackType

from greenroom.model.errors import InputCancellation
from greenroom.usercode.frames import is_uninterruptible

SIGNAL = signal.SIGRTMIN + 7
RETRY = 0.01
"""Seconds between two tries to interrupt."""


class Task:
    """Something that runs user code: an input, or the start-up (``seq`` -1)."""

    __slots__ = ("cancelled", "delivered", "given_up", "over", "seq")

    def __init__(self, seq: int) -> None:
        self.seq = seq
        self.cancelled = False
        """Somebody wants it to end."""
        self.delivered = False
        """The exception was raised in it."""
        self.over = False
        """Its user code has ended."""
        self.given_up = False
        """It would not end, and nobody waits for it any more."""


class UserCode:
    """User code runs while this is entered. A child that it forked ends where it leaves, by whatever way."""

    __slots__ = ("entered",)

    def __init__(self) -> None:
        self.entered = False

    def __enter__(self) -> None:
        self.entered = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.entered = False
        if _forked:
            _leave_child(error)


class MainThread:
    """What the main thread runs."""

    def __init__(self) -> None:
        self.task: Task | None = None
        """What holds it, in user code or in ours."""
        self.user_code = UserCode()
        self._ident = threading.main_thread().ident or 0

    def install(self) -> None:
        """Take the signal; to be called on the main thread."""
        signal.signal(SIGNAL, self._handle)

    def interrupt(self, task: Task) -> None:
        """Try once; ``task.delivered`` says whether it worked. To be called from another thread."""
        if self.task is task and not task.delivered:
            signal.pthread_kill(self._ident, SIGNAL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        task = self.task
        if not self.user_code.entered or task is None or not task.cancelled or task.delivered:
            return
        if frame is not None and is_uninterruptible(frame.f_code.co_filename):
            return
        task.delivered = True
        raise InputCancellation("the call was cancelled, or ran out of time")


_forked = False


def keep_to_this_process(*sockets: socket.socket) -> None:
    """Children that user code forks can't speak on these."""

    def let_go() -> None:
        global _forked
        _forked = True
        for sock in sockets:
            if sock.fileno() < 0:
                continue  # closed since: another server's took its place
            null = socket.socket(socket.AF_UNIX)
            os.dup2(null.fileno(), sock.fileno(), inheritable=False)
            null.close()

    os.register_at_fork(after_in_child=let_go)


def _leave_child(error: BaseException | None) -> None:
    """What would follow is the parent's: results, exit hooks, all of it. The status is what a script's would be."""
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        from greenroom.usercode.exceptions import print_exception

        print_exception(error, f"in a forked child (pid {os.getpid()}):")
        status = 1
    flush()
    os._exit(status)


def flush() -> None:
    """What was printed leaves this process."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # a stream that is none of ours
