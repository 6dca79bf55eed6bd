"""The supervisor: the parent of a container's agent, forked off before anything is imported.

It holds the deadline of the exit phase by itself, reaps whatever user code leaves behind, ends it, and writes down how
the agent ended. It needs nobody: not the server, not the worker.

In a container with processes of its own it is process 1 there: what is left when it ends, the kernel ends.

The agent says ``grace SECONDS`` on their socket pair: the container must be gone by then. SIGTERM, and the worker's
death, set the backstop unless a deadline is set already; SIGUSR1 ends the container now. ``stay`` takes the backstop back:
another server has the container, with another worker, which looks after it.
"""

import os
import select
import signal
import sys
import time

NOTE = 1024
"""Bytes of each of the two notes: the agent's process id, and how it ended."""
LEFTOVERS = 2.0
"""Seconds in which killed processes must have gone."""


def run(argv: list[str]) -> None:
    """``--begin FD --ledger FD --notes FD --watch FD --backstop SECONDS [--dir DIR]``.

    Where descriptors can't be handed in, ``--begin`` and ``--notes`` are paths, and there is no ledger and no watch (-1).
    """
    options = dict(zip(argv[::2], argv[1::2], strict=True))
    begin, ledger, notes, watch = (_descriptor(options[name]) for name in ("--begin", "--ledger", "--notes", "--watch"))
    # Whoever started us may have blocked signals, and that is inherited.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    ours, theirs = _socketpair()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.close(ours)
        os.close(notes)
        if watch >= 0:
            os.close(watch)
        from greenroom.agent.garbage import collect_rarely

        collect_rarely()
        from greenroom.agent.main import main

        main(begin, ledger, theirs)
    for fd in (begin, ledger, theirs):
        if fd >= 0:
            os.close(fd)
    supervisor = _Supervisor(pid, ours, notes, watch, options.get("--dir", ""), float(options["--backstop"]))
    os._exit(supervisor.supervise())


def _descriptor(word: str) -> int:
    return int(word) if word.removeprefix("-").isdigit() else os.open(word, os.O_RDWR | os.O_CLOEXEC)


def _socketpair() -> tuple[int, int]:
    import _socket  # what `socket` is made of, without what it imports

    ours, theirs = _socket.socketpair()
    return ours.detach(), theirs.detach()


class _Supervisor:
    def __init__(self, pid: int, channel: int, notes: int, watch: int, directory: str, backstop: float) -> None:
        self._pid = pid
        self._channel = channel
        self._notes = notes
        self._watch = watch
        self._directory = directory
        self._backstop = backstop
        self._deadline: float | None = None
        self._ending = False
        """The agent has said by when it ends."""
        self._stays = False
        """A server has it that isn't the one that began it."""
        self._kill_asked = False
        self._deadline_expired = False
        self._agent_killed = False
        self._alone = False
        self._status: int | None = None
        self._heard = b""
        self._leftovers: set[int] = set()
        self._waker, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: object) -> None:
        if number == signal.SIGTERM:
            self._arm_backstop()
        elif number == signal.SIGUSR1:
            self._kill_asked = True

    def supervise(self) -> int:
        """Until nothing of the container is left; the supervisor's own exit status."""
        if os.getpid() != 1:
            _adopt_orphans()
        _note(self._notes, 0, str(self._pid))
        poll = select.poll()
        for fd in (self._channel, self._watch, self._waker):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        while True:
            self._reap()
            if self._status is not None:
                break
            for fd, _ in poll.poll(self._enforce()):
                if fd == self._waker:
                    os.read(fd, 4096)
                elif fd == self._channel:
                    self._hear(poll)
                else:
                    self._worker_gone(poll)
        self._end_leftovers()
        written = self._write_down()
        if self._alone and self._directory:
            self._clear_away()
        return 0 if written else 1

    def _arm_backstop(self) -> None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._backstop

    def _enforce(self) -> float | None:
        """Kill the agent when that is due; milliseconds until it will be."""
        if self._agent_killed or (self._deadline is None and not self._kill_asked):
            return None
        if not self._kill_asked and self._deadline is not None and (left := self._deadline - time.monotonic()) > 0:
            return left * 1000 + 1
        self._agent_killed = True
        self._deadline_expired = not self._kill_asked
        # Only itself: what it started may be in other groups, and all of that is ended once it has gone.
        _kill(self._pid)
        return None

    def _hear(self, poll: "select.poll") -> None:
        try:
            arrived = os.read(self._channel, 4096)
        except OSError:
            arrived = b""
        if not arrived:
            poll.unregister(self._channel)
        *lines, self._heard = (self._heard + arrived).split(b"\n")
        for line in lines:
            word, _, seconds = line.partition(b" ")
            if word == b"grace":
                self._ending = True
                self._deadline = time.monotonic() + float(seconds)
            elif word == b"stay" and not self._ending:
                self._stays, self._deadline = True, None

    def _worker_gone(self, poll: "select.poll") -> None:
        """The server, or the agent by itself, ends the container; this is in case neither can."""
        self._alone = not self._stays
        poll.unregister(self._watch)
        if not self._stays:
            self._arm_backstop()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid:
                self._status = status

    def _end_leftovers(self) -> None:
        """What user code started and left, daemons included: all of it has been orphaned to us, or will be."""
        limit = time.monotonic() + LEFTOVERS
        while (children := _children()) and time.monotonic() < limit:
            for pid in children:
                _kill(pid)
            self._leftovers.update(children)
            if select.select([self._waker], [], [], 0.01)[0]:
                os.read(self._waker, 4096)
            self._reap()

    def _write_down(self) -> bool:
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        text = '{"exit_code": %s, "signal": %s, "deadline_expired": %s, "killed": %s, "at": %.3f}' % (  # noqa: UP031
            code if code >= 0 else "null",
            -code if code < 0 else "null",
            "true" if self._deadline_expired else "false",
            sorted(self._leftovers),
            time.time(),
        )
        return _note(self._notes, NOTE, text)

    def _clear_away(self) -> None:
        """The worker died. A server that lives starts another, which needs what is here; else it is ours to remove."""
        import fcntl
        import shutil

        containers = os.path.dirname(self._directory)
        run = os.path.dirname(containers)
        if not self._ending and os.path.exists(os.path.join(self._directory, "ledger")):
            return  # the next server's worker asks what the agent was at when it died
        try:
            here = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            lock = os.open("lock", os.O_RDONLY | os.O_CLOEXEC, dir_fd=here)
            # Shared: several supervisors may be at this at once. The server's own lock is exclusive.
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(here), os.stat(run)):
                return  # another one took it away, and the next server has made it anew
        except OSError:
            return
        shutil.rmtree(self._directory, ignore_errors=True)
        try:
            os.rmdir(os.path.basename(containers), dir_fd=here)
        except OSError:
            return  # the last one removes the rest
        if os.path.isdir(ended := os.path.join(run, "ended")) and os.listdir(ended):
            return  # of these too
        gone = f"{run}.{os.getpid()}"
        try:
            os.rename(run, gone)  # at once: the next server may make it anew before all of it has gone
        except OSError:
            return
        shutil.rmtree(gone, ignore_errors=True)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _note(fd: int, where: int, text: str) -> bool:
    """Write over a place in the notes that is taken already, so that a full disk doesn't matter."""
    try:
        os.pwrite(fd, text.encode(), where)
    except OSError as error:
        try:
            print(f"greenroom: can't note how the container ended: {error.strerror}", file=sys.stderr, flush=True)
        except OSError:
            return False  # nor can anything be said
        return False
    return True


def _adopt_orphans() -> None:
    """Descendants whose parent ends become our children. Imported after the fork: it costs the agent nothing."""
    import ctypes

    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:
        return _children_by_parent()


def _children_by_parent() -> list[int]:
    """For kernels without a list of children (CONFIG_PROC_CHILDREN)."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", errors="replace") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid():
            found.append(int(entry))
    return found
