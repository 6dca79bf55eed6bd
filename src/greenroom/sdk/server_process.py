"""Starting a server: its run directory; and the one that ``app.run()`` starts when there is none, its process, its end."""

import errno
import fcntl
import os
import select
import shutil
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from greenroom.model.errors import ConnectionError, InvalidError
from greenroom.model.ids import new_id
from greenroom.model.settings import home_directory, own_environment, settings_from_environment
from greenroom.sdk.address import Address
from greenroom.sdk.streams import open_standard_descriptors
from greenroom.wire.connection import MAX_SOCKET_PATH

LOG = "server.log"
"""The servers' own log, in the state directory."""
LOG_LIMIT = 1024**2
"""Bytes of the servers' own log from which on a new one is begun."""
HANDING_OVER = 20.0
"""Seconds that the worker of a server that died may take to leave its run directory to the next one."""
STANDING = "standing"
"""Run directory of the server that stays: the next one has the same, and the containers that are in it."""
END = 60.0
"""Seconds that a server may take to end; it needs milliseconds."""


class Prepared(NamedTuple):
    """What a server is started with."""

    home: Path
    run: Path
    """Its run directory."""
    server_id: str
    token: str

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.run / "server.sock"

    def command(self, listener: int, lock: int) -> list[str]:
        """What becomes it; both descriptors are inherited. -P: the working directory is the user's, and may hold a queue.py."""
        return [
            sys.executable, "-P", "-m", "greenroom.server",
            "--home", str(self.home), "--run", str(self.run), "--id", self.server_id,
            "--listen", str(listener), "--lock", str(lock),
        ]  # fmt: skip

    def open(self, opened: ExitStack) -> tuple[int, int]:
        """The descriptors that it listens on, and that say that it lives.

        Raises:
            OSError: something can't be written.
            InvalidError: the worker of the server before it, in the same directory, does not leave.
        """
        lock = self._lock()
        opened.callback(os.close, lock)
        for left in ("server.sock", "stale"):
            (self.run / left).unlink(missing_ok=True)
        fd = os.open(self.run / "token", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(self.token)
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(self.socket))
        listener.listen(1024)
        return listener.fileno(), lock

    def _lock(self) -> int:
        """Of the run directory. One that was there may be removed, or held by a worker that is about to leave it."""
        limit = time.monotonic() + HANDING_OVER
        while True:
            self.run.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                lock = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_ino == os.stat(self.run / "lock").st_ino:
                    return lock
            except BlockingIOError:
                if time.monotonic() > limit:
                    os.close(lock)
                    raise InvalidError(
                        f"a worker of the server before this one still holds {self.run}: end it, or wait until it has ended"
                    ) from None
            except FileNotFoundError:
                pass  # it was cleared up just now
            os.close(lock)
            time.sleep(0.02)

    def not_written(self, error: OSError) -> InvalidError:
        """Why it can't be started."""
        shutil.rmtree(self.run, ignore_errors=True)
        full = "free some space there, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        log = self.home / LOG
        what = f"the servers' log {log}" if str(error.filename) == str(log) else f"the state directory {self.home}"
        return InvalidError(
            f"can't write {what}: {error.strerror or error}; {full}set GREENROOM_HOME to another directory"
        )


def prepare(*, stays: bool = False) -> Prepared:
    """For a server in this user's state directory.

    Args:
        stays: it does, and takes the place of one that has died.

    Raises:
        InvalidError: its path is too long.
    """
    home = home_directory()
    server_id = new_id("sv")
    made = Prepared(home, home / "run" / (STANDING if stays else server_id[3:]), server_id, new_id("tk"))
    if (size := len(os.fsencode(made.socket))) > MAX_SOCKET_PATH:
        raise InvalidError(
            f"the state directory's path is too long for a Unix socket ({size} bytes of at most "
            f"{MAX_SOCKET_PATH}): {made.socket}; set GREENROOM_HOME to a shorter one"
        )
    return made


class ServerProcess:
    """An ephemeral server. It takes connections as soon as this object is made: they wait until it is up."""

    def __init__(self) -> None:
        open_standard_descriptors()
        settings = settings_from_environment()  # a wrong setting is told here, not in a log
        self.backstop = settings.cancel_grace + settings.exit_grace + 5.0
        """Seconds after which its containers have ended, should it die."""
        made = prepare()
        self.run = made.run
        """Its run directory."""
        self.address = Address(str(made.socket), made.token)
        try:
            with ExitStack() as opened:
                self._pid = self._start(made, opened)
        except OSError as error:
            raise made.not_written(error) from None
        try:
            self._pidfd = os.pidfd_open(self._pid)
        except ProcessLookupError:  # it has ended, and the program's own handler of SIGCHLD took its status
            self._pidfd = -1

    def _start(self, made: Prepared, opened: ExitStack) -> int:
        """The server's process id; what is ``opened`` is the server's too from then on. Raises OSError."""
        listener, lock = made.open(opened)
        log = made.home / LOG
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.old"))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        opened.callback(os.close, output)
        os.set_inheritable(listener, True)
        os.set_inheritable(lock, True)
        try:
            return os.posix_spawn(
                sys.executable,
                made.command(listener, lock),
                own_environment(),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        finally:
            os.set_inheritable(listener, False)
            os.set_inheritable(lock, False)

    def wait(self) -> None:
        """Until it has ended, which it does once its last client has gone.

        Raises:
            ConnectionError: it doesn't.
        """
        if self._pidfd >= 0:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if not poll.poll(END * 1000):
                raise ConnectionError(
                    f"the server (process {self._pid}) does not end; see {LOG} in {self.run.parent.parent}"
                )
            try:
                os.waitpid(self._pid, 0)
            except ChildProcessError:
                pass  # the program ignores SIGCHLD, or has a handler that takes whatever ends
            os.close(self._pidfd)
        self._clear_up()

    def in_use(self) -> bool:
        """Whether it, or a worker that it left, still needs the run directory."""
        try:
            lock = os.open(self.run / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False  # it is gone, or somebody removes it
        except OSError:
            return True  # for all that can be told
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def has_containers(self) -> bool:
        """Whether any are left that have not been cleared up."""
        return any((self.run / "containers").glob("*"))

    def _clear_up(self) -> None:
        """The server removes its run directory; killed, it leaves that to its worker; killed too early to have one, to us."""
        limit = time.monotonic() + END
        while self.in_use():
            if time.monotonic() > limit:
                return
            time.sleep(0.02)
        if not self.has_containers():
            shutil.rmtree(self.run, ignore_errors=True)
