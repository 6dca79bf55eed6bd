"""The parent of a command that enters a container: ends as that does, with nothing of it left, and says the terminal's size.

A script of its own. What a runtime puts into a container is the runtime's child; when that is killed, or fails on the
way, its child goes to the next above. Where that is a process 1 that waits for nobody (``sleep infinity``, in many a
container), the child stays a zombie, and the kernel lets no container end that has one.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import termios
from types import FrameType

_BECOME_PARENT = 36  # PR_SET_CHILD_SUBREAPER
_TAKE_DESCRIPTOR = 438  # pidfd_getfd, on every architecture
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(words: list[str]) -> int:
    """Run a command, and kill what it leaves; its exit status, as a shell tells it."""
    ctypes.CDLL(None).prctl(_BECOME_PARENT, 1, 0, 0, 0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    child = os.posix_spawnp(words[0], words, os.environ, setsigmask=before)

    def pass_on(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(child, number)

    if os.isatty(0):
        signal.signal(signal.SIGWINCH, lambda number, frame: _tell_size(child))
    for number in _PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(ChildProcessError):  # there are none left
        while True:
            _kill_children()
            os.waitpid(-1, 0)
    return code if code >= 0 else 128 - code


def _tell_size(runtime: int) -> None:
    """Of this terminal to the one that a runtime has made: crun's exec does so at the start alone."""
    directory = f"/proc/{runtime}/fd"
    with contextlib.suppress(OSError):  # it is just ending
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
        pidfd = os.pidfd_open(runtime)
        try:
            for name in os.listdir(directory):
                if os.readlink(f"{directory}/{name}").endswith("/ptmx"):
                    terminal = ctypes.CDLL(None).syscall(_TAKE_DESCRIPTOR, pidfd, int(name), 0)
                    fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
                    os.close(terminal)
        finally:
            os.close(pidfd)


def _kill_children() -> None:
    try:
        with open("/proc/thread-self/children") as file:
            children = file.read().split()
    except OSError:
        return  # a kernel that doesn't tell: they are waited for
    for pid in map(int, children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
